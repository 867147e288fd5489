"""Tables that must have the numbers from 0, each once.

    copied_numbers.py TABLES COUNT

TABLES: a file with a folder of Parquet files on each line. Reports every table that has other numbers.
"""

import glob
import json
import sys

import duckdb


def numbers(table):
    files = glob.glob(f"{glob.escape(table)}/*.parquet")
    rows = duckdb.execute("SELECT n FROM read_parquet($1) ORDER BY n", [files]).fetchall() if files else []
    return [n for (n,) in rows]


def main():
    tables, count = sys.argv[1], int(sys.argv[2])
    with open(tables) as lines:
        found = {table: numbers(table) for table in lines.read().splitlines()}
    wrong = {table: rows for table, rows in found.items() if rows != list(range(count))}
    print(json.dumps({"tables": len(found), "wrong": wrong}))
    return 1 if wrong or not found else 0


if __name__ == "__main__":
    sys.exit(main())
