"""The same aggregation by DuckDB, from NDJSON to Parquet: duckdb_peer.py EVENTS OUT_DIR THREADS"""

import os
import sys

import duckdb

events, out, threads = sys.argv[1:]
os.makedirs(out)
database = duckdb.connect()
database.execute(f"SET threads = {int(threads)}")
database.execute("SET TimeZone = 'UTC'")
columns = "{user_id: 'VARCHAR', session_id: 'VARCHAR', event_type: 'VARCHAR', app_type: 'VARCHAR', timestamp: 'TIMESTAMPTZ'}"
database.execute(
    f"""
    COPY (
        SELECT time_bucket(INTERVAL '1 minute', timestamp) AS window_start, user_id, event_type, app_type,
               count(*) AS event_count, list_sort(list(DISTINCT session_id)) AS session_ids, now() AS processing_time
        FROM read_json('{events}', format = 'newline_delimited', columns = {columns})
        GROUP BY ALL
    ) TO '{out}/aggregates.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)
    """
)
