"""Asks DuckDB a query over a table, so that its rows can be compared with ours.

    ask.py TABLE_DIR TABLE_NAME SQL

Prints JSON {"rows": [{column: value}...]} in the order of the query; times as text, such as `2026-01-01 14:00:00`, in UTC.
"""

import datetime
import decimal
import json
import os
import sys

import duckdb


def plain(value):
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S") if value.tzinfo else str(value)
    if isinstance(value, decimal.Decimal):
        return int(value) if value == int(value) else float(value)
    return value


def main():
    folder, name, sql = sys.argv[1:4]
    connection = duckdb.connect()
    # Times without a zone, in UTC: what has a zone needs an extension.
    connection.execute(
        f"""
        CREATE TABLE {name} AS SELECT * REPLACE (
            make_timestamp(epoch_us(window_start)) AS window_start, make_timestamp(epoch_us(window_end)) AS window_end)
        FROM read_parquet(?, hive_partitioning = true)
        """,
        [os.path.join(folder, "**", "*.parquet")],
    )
    found = connection.execute(sql)
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, map(plain, row))) for row in found.fetchall()]
    print(json.dumps({"rows": rows, "problems": []}))


if __name__ == "__main__":
    main()
