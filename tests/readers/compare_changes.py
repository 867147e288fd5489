"""Computes what cdc-transformation must write from the raw records, and compares both of its outputs with it.

    compare_changes.py DUMP OUTPUTS_DIR [--only OUTPUT] [--watermark US]

DUMP is a dump of the topic (see records.py), read by changes.py. Both outputs are read by DuckDB and by pyarrow. With
--watermark (microseconds since 1970) only summaries of windows that have ended by then must be there. Prints one JSON object:
{"counts": {"records", "tombstones", "control", "bad", "changes"}, "missing": {...}, "extra": {...}, "dead_letters":
{"missing", "extra", "examples"}}, with up to three examples for each output and reader; ends with 1 on any difference.
"""

import argparse
import collections
import datetime
import json
import os
import sys

import dead_letters
from changes import Bad, Control, Tombstone, change
from records import dump_lines
from rows import plain, read_duckdb, read_pyarrow

MINUTE = 60_000_000
NAMES = ("database", "schema_name", "table_name")
COUNTED = {"INSERT": "insert_count", "UPDATE": "update_count", "DELETE": "delete_count"}
EXAMPLES = 3


def date(microseconds):
    day = datetime.date(1970, 1, 1) + datetime.timedelta(microseconds=microseconds)
    return day.isoformat()


def expected(path, watermark):
    """The rows of both outputs, each with its number, what became of the records, and the bad ones."""
    counts = collections.Counter(records=0, tombstones=0, control=0, bad=0, changes=0)
    rows, groups, bad = collections.Counter(), {}, []
    for topic, partition, offset, value in dump_lines(path):
        counts["records"] += 1
        try:
            found = change(value)
        except Tombstone:
            counts["tombstones"] += 1
            continue
        except Control:
            counts["control"] += 1
            continue
        except Bad:
            counts["bad"] += 1
            bad.append((topic, partition, offset, value))
            continue
        counts["changes"] += 1
        row = dict(found)
        row["old_record"], row["new_record"] = row.pop("before"), row.pop("after")
        row["date"] = date(row["event_time"])
        rows[json.dumps(row, sort_keys=True)] += 1
        start = row["event_time"] // MINUTE * MINUTE
        group = groups.setdefault((start, *(row[name] for name in NAMES)), collections.Counter())
        group["total_operations"] += 1
        group[COUNTED.get(row["operation_type"], "others")] += 1
    summaries = collections.Counter()
    for (start, *names), group in groups.items():
        if watermark is not None and start + MINUTE > watermark:
            continue
        summary = {"window_start": start, "window_end": start + MINUTE, **dict(zip(NAMES, names)), "date": date(start)}
        summary.update({name: group[name] for name in ("total_operations", *COUNTED.values())})
        summaries[json.dumps(summary, sort_keys=True)] += 1
    return {"cdc_transformed": rows, "cdc_operation_summaries": summaries}, counts, bad


def written(read, folder):
    found = collections.Counter()
    for row in read(folder):
        row = {name: plain(item) for name, item in row.items()}
        row["date"] = str(row["date"])
        if row.pop("processing_time") is None:
            row["processing_time"] = None
        found[json.dumps(row, sort_keys=True)] += 1
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump")
    parser.add_argument("outputs")
    parser.add_argument("--only", help="compare this output alone")
    parser.add_argument("--watermark", type=int)
    args = parser.parse_args()
    outputs, counts, bad = expected(args.dump, args.watermark)
    report = {"counts": counts, "missing": {}, "extra": {}}
    for name, rows in outputs.items():
        if args.only not in (None, name):
            continue
        for reader, read in (("duckdb", read_duckdb), ("pyarrow", read_pyarrow)):
            found = written(read, os.path.join(args.outputs, name))
            for kind, difference in (("missing", rows - found), ("extra", found - rows)):
                if difference:
                    examples = [json.loads(row) for row, _ in difference.most_common(EXAMPLES)]
                    report[kind][f"{name} by {reader}"] = {"rows": difference.total(), "examples": examples}
    table = args.only or "cdc_transformed"
    report["dead_letters"] = dead_letters.difference(os.path.join(args.outputs, table + "_dead_letters"), bad)
    differs = report["missing"] or report["extra"] or report["dead_letters"]["examples"]
    print(json.dumps(report))
    sys.exit(1 if differs else 0)


if __name__ == "__main__":
    main()
