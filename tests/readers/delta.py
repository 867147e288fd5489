"""Delta tables by the readers of others, and by another writer.

    delta.py read TABLE [COLUMN...]   every row by deltalake and by polars, which must agree: {"rows": [...], "version": N}
    delta.py watch TABLE --key COLUMN --until FILE --progress FILE
                                      reads again and again until FILE appears: {"reads", "rows_last", "errors", "duplicates"}
    delta.py append TABLE ROWS        adds rows, a JSON list of objects; names that the table lacks become columns
    delta.py optimize TABLE           puts small files together
    delta.py vacuum TABLE             removes every file that the table no longer has
    delta.py overwrite TABLE ROWS     replaces rows and schema
    delta.py delete TABLE PREDICATE   removes rows
    delta.py same TABLE FOLDER [BUT]  that a folder of Parquet files in directories has the same rows, but for columns BUT
    delta.py files TABLE              how many files the table has: {"files": N}
    delta.py check TABLE              that statistics hold for the rows of each file: {"files": N, "wrong": [...]}

TABLE is a folder, or an URL in a bucket, which the variables AWS_* say how to reach. Prints one JSON object; ends with 1 if
something is wrong.
"""

import argparse
import datetime
import decimal
import json
import os
import sys
import time

import deltalake
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from rows import plain


def rows_of(table, columns):
    rows = table.select(columns).to_pylist() if columns else table.to_pylist()
    return [{name: plain(value) for name, value in row.items()} for row in rows]


def in_order(rows):
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True, default=str))


# None for a folder.
STORE = {name: value for name, value in os.environ.items() if name.startswith("AWS_")} or None


def opened(path):
    return deltalake.DeltaTable(path, storage_options=STORE)


def by_deltalake(path):
    return opened(path).to_pyarrow_table()


def by_polars(path):
    return polars.read_delta(path, storage_options=STORE).to_arrow()


def read(args):
    found = in_order(rows_of(by_deltalake(args.table), args.columns))
    other = in_order(rows_of(by_polars(args.table), args.columns))
    if found != other:
        pairs = [(one, two) for one, two in zip(found, other) if one != two][:3]
        return {"deltalake": len(found), "polars": len(other), "differ": pairs}, False
    table = opened(args.table)
    types = {field.name: str(field.type) for field in by_deltalake(args.table).schema}
    return {"rows": found, "version": table.version(), "types": types}, True


def same(args):
    found = in_order(rows_of(by_deltalake(args.table), []))
    folder = pyarrow.dataset.dataset(args.more[0], partitioning="hive", format="parquet", exclude_invalid_files=False)
    names = [name for name in folder.schema.names if name not in args.more[1:]]
    expected = [{name: plain(value) for name, value in row.items()} for row in folder.to_table().to_pylist()]

    def texts(rows):
        return sorted(json.dumps({name: str(row[name]) for name in names}, sort_keys=True) for row in rows)

    found, expected = texts(found), texts(expected)
    differ = [pair for pair in zip(found, expected) if pair[0] != pair[1]][:2]
    return {"rows": len(found), "expected": len(expected), "differ": differ}, found == expected


def watch(args):
    parent = os.getppid()
    reads, errors, rows, duplicates, last = 0, [], 0, 0, False
    while not last:
        last = os.path.exists(args.until)
        if os.getppid() != parent:
            sys.exit(1)
        # Between two versions a table is whole: any error counts, but for one that is not there yet.
        if deltalake.DeltaTable.is_deltatable(args.table, storage_options=STORE):
            try:
                keys = by_deltalake(args.table).column(args.key).to_pylist()
                duplicates = max(duplicates, len(keys) - len(set(keys)))
                if len(keys) < rows:
                    errors.append(f"read {reads}: {rows} rows were there, now {len(keys)}")
                rows = len(keys)
            except Exception as error:  # noqa: BLE001 whatever it is, a reader met it
                errors.append(f"read {reads}: {error}")
        reads += 1
        with open(args.progress + ".partial", "w", encoding="utf-8") as file:
            file.write(str(reads))
        os.replace(args.progress + ".partial", args.progress)
        time.sleep(0.05)
    report = {"reads": reads, "rows_last": rows, "errors": errors[:20], "duplicates": duplicates}
    return report, not errors and not duplicates


def typed(rows):
    return pa.Table.from_pylist(json.loads(rows))


def append(args):
    deltalake.write_deltalake(args.table, typed(args.rows), mode="append", schema_mode="merge", storage_options=STORE)
    return {}, True


def overwrite(args):
    deltalake.write_deltalake(
        args.table, typed(args.rows), mode="overwrite", schema_mode="overwrite", storage_options=STORE
    )
    return {}, True


def optimize(args):
    return opened(args.table).optimize.compact(), True


def vacuum(args):
    table = opened(args.table)
    removed = table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    return {"removed": len(removed)}, True


def files(args):
    return {"files": len(deltalake.DeltaTable(args.table).file_uris())}, True


def delete(args):
    return opened(args.table).delete(args.predicate), True


def value_of(text, sample):
    """A statistic in the type of a value."""
    if isinstance(sample, datetime.datetime):
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if isinstance(sample, datetime.date):
        return datetime.date.fromisoformat(text)
    if isinstance(sample, decimal.Decimal):
        return decimal.Decimal(str(text))
    return text


def check(args):
    """The statistics of every file that a log adds hold for its rows."""
    wrong, files = [], 0
    log = os.path.join(args.table, "_delta_log")
    for name in sorted(name for name in os.listdir(log) if name.endswith(".json") and name[0] == "0"):
        with open(os.path.join(log, name), encoding="utf-8") as lines:
            adds = [action["add"] for action in map(json.loads, lines) if "add" in action]
        for add in adds:
            file = os.path.join(args.table, add["path"].replace("%25", "%").replace("%20", " "))
            if not os.path.exists(file):
                continue
            files += 1
            told = json.loads(add["stats"], parse_float=decimal.Decimal)
            rows = pa.parquet.read_table(file, partitioning=None)
            if rows.num_rows != told["numRecords"]:
                wrong.append(f"{add['path']}: {rows.num_rows} rows, {told['numRecords']} are said")
            for column in rows.column_names:
                values = rows.column(column).to_pylist()
                if told["nullCount"].get(column, values.count(None)) != values.count(None):
                    wrong.append(f"{add['path']} {column}: {values.count(None)} nulls")
                values = [value for value in values if value is not None]
                for bounds, holds in [("minValues", min), ("maxValues", max)]:
                    if column in told[bounds] and values:
                        bound, value = value_of(told[bounds][column], values[0]), holds(values)
                        if holds(bound, value) != bound and bound != value:
                            wrong.append(f"{add['path']} {column}: {bounds} is {bound}, there is {value}")
    return {"files": files, "wrong": wrong[:20]}, not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["read", "watch", "append", "optimize", "vacuum", "overwrite", "delete", "files", "same", "check"])
    parser.add_argument("table")
    parser.add_argument("more", nargs="*")
    parser.add_argument("--key", default="n")
    parser.add_argument("--until")
    parser.add_argument("--progress")
    args = parser.parse_args()
    args.columns = args.more
    args.rows = args.predicate = args.more[0] if args.more else None
    report, is_good = globals()[args.what](args)
    print(json.dumps(report, default=str))
    sys.stdout.flush()
    # Threads of the libraries are not always ready for the end of the interpreter.
    os._exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
