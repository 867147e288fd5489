"""Reads a table again and again while a batch job replaces its intervals: each file is as it was before, or as it is now.

    replaced.py OUT_DIR --until FILE --progress FILE

Goes on until FILE appears, with one last read after that. The input of the job stays the same, so that each replacement gives the
same rows with another processing_time. Each file must be whole, of one run (one processing_time), with the rows that it had when it
was seen first, and never of an older run than before; a file that was there must not be gone. --progress is a file that gets the
number of reads. Prints JSON:

    {"reads", "files", "generations", "problems": [...]}

generations: states of a file that were seen, of all files together. Ends with 1 if there were problems.
"""

import argparse
import glob
import hashlib
import io
import json
import os
import sys
import time

import pyarrow.parquet as pq


def shown(row):
    """A row as a text, without the digits of averages that hang on the order of their values."""
    return repr([f"{value:.9g}" if isinstance(value, float) else value for value in row.values()])


def state_of(path):
    """When the rows of a file were computed (None: it has no rows), and what they are besides."""
    # Opened once: a name may mean another file a moment later.
    with open(path, "rb") as file:
        table = pq.read_table(io.BytesIO(file.read()))
    computed = set(table["processing_time"].to_pylist())
    rows = sorted(shown(row) for row in table.drop_columns(["processing_time"]).to_pylist())
    return computed, hashlib.sha256("\n".join(rows).encode()).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir")
    parser.add_argument("--until", required=True)
    parser.add_argument("--progress", required=True)
    args = parser.parse_args()

    parent, reads, generations, problems, last = os.getppid(), 0, 0, [], False
    known = {}
    while not last:
        last = os.path.exists(args.until)
        if os.getppid() != parent:
            sys.exit(1)
        paths = sorted(glob.glob(os.path.join(args.out_dir, "**", "*.parquet"), recursive=True))
        problems += [f"{path} is gone" for path in known if path not in paths]
        for path in paths:
            try:
                computed, rows = state_of(path)
            except (OSError, ValueError) as error:
                problems.append(f"{path}: {type(error).__name__}: {error}")
                continue
            if len(computed) > 1:
                problems.append(f"{path}: rows of {len(computed)} runs")
                continue
            when = next(iter(computed), None)
            before, same = known.get(path, (None, rows))
            if rows != same:
                problems.append(f"{path}: other rows than before")
            if before is not None and when is not None and when < before:
                problems.append(f"{path}: of {when}, and it was of {before}")
            generations += path not in known or when != before
            known[path] = (when, rows)
        reads += 1
        with open(args.progress + ".partial", "w", encoding="utf-8") as file:
            file.write(str(reads))
        os.replace(args.progress + ".partial", args.progress)
        if not last:
            time.sleep(0.01)
    print(json.dumps({"reads": reads, "files": len(known), "generations": generations, "problems": problems[:20]}))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
