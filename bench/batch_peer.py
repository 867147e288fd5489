"""The same by DuckDB: batch_peer.py QUERY.sql DATA OUT THREADS MEMORY

Its last line on standard error is what the process had taken when the library was loaded. A file with COPY writes its files by itself,
once for each hour of the day if it names $hour; one with a SELECT is written to OUT as one Parquet file.
"""

import json
import os
import string
import sys
import time

import duckdb

BEGAN = time.clock_gettime(time.CLOCK_BOOTTIME)

# As in bench/batch.py.
DAY = "2026-01-15"

query, data, out, threads, memory = sys.argv[1:]
database = duckdb.connect()
database.execute(f"SET threads = {int(threads)}")
database.execute(f"SET memory_limit = '{memory}'")
tables = {"events": "events_aggregated_realtime", "sessions": "clickstream_sessions", "users": "users", "hours": "hourly_aggregates"}
for table, folder in tables.items():
    database.execute(
        f"CREATE VIEW {table} AS FROM read_parquet('{data}/{folder}/**/*.parquet', hive_partitioning = true)"
    )
ticks = os.sysconf("SC_CLK_TCK")
with open("/proc/self/stat", encoding="utf-8") as file:
    started = int(file.read().rsplit(")", 1)[1].split()[19]) / ticks
ready = {"cpu": time.process_time(), "seconds": time.clock_gettime(time.CLOCK_BOOTTIME) - started}
with open(query, encoding="utf-8") as file:
    text = file.read()
if "COPY" in text:
    os.makedirs(f"{out}/date={DAY}" if "$hour" in text else out, exist_ok=True)
    for hour in range(24) if "$hour" in text else [0]:
        named = {"hour": f"{DAY} {hour:02}:00:00", "name": f"{DAY.replace('-', '')}T{hour:02}"}
        database.execute(string.Template(text).substitute(out=out, **named))
else:
    database.execute(f"COPY ({text}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")
print(json.dumps(ready), file=sys.stderr)
