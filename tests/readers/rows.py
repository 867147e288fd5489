"""All rows of an output folder, as both plain readers see them.

    rows.py OUT_DIR ORDER_BY

Prints one JSON object: {"rows": [{column: value, ...}, ...], "difference": null or the rows of both readers}. Rows are
ordered by the column ORDER_BY. Timestamps are microseconds since 1970, bytes are hexadecimal, dates and decimals are
text. Ends with 1 when the readers do not see the same.
"""

import argparse
import datetime
import decimal
import json
import os
import sys

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MICROSECOND = datetime.timedelta(microseconds=1)


def plain(value):
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, datetime.datetime):
        return (value - EPOCH) // MICROSECOND
    if isinstance(value, (datetime.date, decimal.Decimal)):
        return str(value)
    return value


def ordered(rows, order_by):
    return sorted((plain(row) for row in rows), key=lambda row: (row[order_by], json.dumps(row, sort_keys=True)))


# Readers that have an environment of their own know only one of the two libraries.
def read_duckdb(folder):
    import duckdb

    pattern = os.path.join(folder, "**", "*.parquet").replace("'", "''")
    with duckdb.connect() as database:
        # Through Arrow, since DuckDB's own conversion of times needs a further package.
        return database.sql(f"FROM read_parquet('{pattern}', hive_partitioning = true)").to_arrow_table().to_pylist()


def read_pyarrow(folder):
    import pyarrow.dataset

    return pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").to_table().to_pylist()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir")
    parser.add_argument("order_by")
    args = parser.parse_args()
    one = ordered(read_duckdb(args.out_dir), args.order_by)
    other = ordered(read_pyarrow(args.out_dir), args.order_by)
    difference = None if one == other else {"duckdb": one, "pyarrow": other}
    print(json.dumps({"rows": one, "difference": difference}))
    sys.exit(0 if difference is None else 1)


if __name__ == "__main__":
    main()
