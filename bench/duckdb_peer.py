"""The same by DuckDB, from NDJSON to Parquet: duckdb_peer.py QUERY.sql EVENTS_DIR OUT_DIR THREADS"""

import os
import string
import sys

import duckdb

query, events, out, threads = sys.argv[1:]
os.makedirs(out)
database = duckdb.connect()
database.execute(f"SET threads = {int(threads)}")
database.execute("SET TimeZone = 'UTC'")
with open(query, encoding="utf-8") as file:
    database.execute(string.Template(file.read()).substitute(events=events, out=out))
