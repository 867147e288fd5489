"""Reads an output again and again, as other people's programs do, while the job that writes it is killed.

    watch.py OUT_DIR --until FILE [options]

Goes on until FILE appears, with one last read after that. Prints JSON:

    {"reads", "rows_last", "duplicates", "errors": [{"reader", "read", "error"}...], "error_count"}

An error is whatever a plain reader may never meet: a file that it cannot read, a file that vanished between listing and
reading, rows that were there before and are gone. duplicates is the greatest number of rows beyond the first of their
key (window_start, user_id, event_type, app_type) that any read saw. A folder that is not there yet, or holds no file
yet, is no error. Ends with 1 if there were errors or duplicates.

  --key A,B        read any table, whose rows are known by these columns; --key "" if none are
  --format F       parquet, csv or ndjson (parquet); the last two with --key
  --progress FILE  holds the number of finished reads, so that who kills the job can wait for some
  --pause S        seconds between two reads (0.05), so that the job keeps some of the machine
  --at-most S      give up after this time (1800): that is an error
"""

import argparse
import json
import os
import sys
import time

import plain

ERRORS_SHOWN = 20


def write_whole(path, text):
    """Who reads the file never sees half of it."""
    with open(path + ".partial", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".partial", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir")
    parser.add_argument("--until", required=True)
    parser.add_argument("--key")
    parser.add_argument("--format", choices=["parquet", "csv", "ndjson"], default="parquet")
    parser.add_argument("--progress")
    parser.add_argument("--pause", type=float, default=0.05)
    parser.add_argument("--at-most", type=float, default=1800)
    args = parser.parse_args()

    read, key = plain.read, plain.KEY
    if args.key is not None:
        key = [name for name in args.key.split(",") if name]

        def read(reader, folder):
            return plain.read_any(reader, folder, args.format)

    parent = os.getppid()
    deadline = time.monotonic() + args.at_most
    rows = dict.fromkeys(plain.READERS, 0)
    reads, errors, duplicates = 0, [], 0
    last = False
    while not last:
        last = os.path.exists(args.until)
        # Whoever started this is gone: nobody will create FILE, and nobody reads the result.
        if os.getppid() != parent:
            sys.exit(1)
        if time.monotonic() > deadline:
            error = f"{args.until} did not appear within {args.at_most} s"
            errors.append({"reader": "watch", "read": reads, "error": error})
            break
        for reader in plain.READERS:
            if not os.path.isdir(args.out_dir) and rows[reader] == 0:
                continue
            try:
                table = read(reader, args.out_dir)
                count = 0 if table is None else table.num_rows
                if table is not None:
                    duplicates = max(duplicates, plain.duplicates(table, key))
                if count < rows[reader]:
                    error = f"{rows[reader]} rows before, {count} now"
                    errors.append({"reader": reader, "read": reads, "error": error})
                rows[reader] = count
            except Exception as error:  # whatever a reader throws is what its user would see
                errors.append({"reader": reader, "read": reads, "error": f"{type(error).__name__}: {error}"})
        reads += 1
        if args.progress:
            write_whole(args.progress, str(reads))
        if not last:
            time.sleep(args.pause)
    print(
        json.dumps(
            {
                "reads": reads,
                "rows_last": rows,
                "duplicates": duplicates,
                "errors": errors[:ERRORS_SHOWN],
                "error_count": len(errors),
            }
        )
    )
    sys.exit(1 if errors or duplicates else 0)


if __name__ == "__main__":
    main()
