"""Writes a table that is larger than a run's memory: one file, and names for it.

    large_table.py FOLDER ROWS NAMES

The rows are of 2026-01-01 00:00 to 01:00 UTC: time, key (0 to 999), number (0 to ROWS - 1), payload (64 characters, another
one in each row). The file has NAMES names (hard links) in FOLDER/date=2026-01-01, so that the table has NAMES times as
many rows. Prints JSON: {"bytes"}, of all files together.
"""

import json
import os
import sys

import duckdb


def main() -> int:
    folder, rows, names = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    directory = os.path.join(folder, "date=2026-01-01")
    os.makedirs(directory)
    first = os.path.join(directory, "part-0.parquet")
    duckdb.sql(
        f"""COPY (SELECT TIMESTAMPTZ '2026-01-01 00:00:00+00' + INTERVAL (i % 3600) SECOND AS time, i % 1000 AS key,
                         i AS number, md5(i::VARCHAR) || md5((-i)::VARCHAR) AS payload
                  FROM range({rows}) numbers(i))
            TO '{first}' (FORMAT parquet, COMPRESSION zstd)"""
    )
    for number in range(1, names):
        os.link(first, os.path.join(directory, f"part-{number}.parquet"))
    print(json.dumps({"bytes": os.path.getsize(first) * names}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
