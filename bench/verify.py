"""Compares an output of event-aggregation with DuckDB's answer from the same events as NDJSON: verify.py OUT EVENTS

Row for row; ends with 1 on any difference.
"""

import sys

import duckdb

out, events = sys.argv[1:]
database = duckdb.connect()
database.execute("SET TimeZone = 'UTC'")
columns = "{user_id: 'VARCHAR', session_id: 'VARCHAR', event_type: 'VARCHAR', app_type: 'VARCHAR', timestamp: 'TIMESTAMPTZ'}"
database.execute(
    f"""
    CREATE TABLE expected AS
    SELECT time_bucket(INTERVAL '1 minute', timestamp) AS window_start, user_id, event_type, app_type,
           count(*) AS event_count, list_sort(list(DISTINCT session_id)) AS session_ids
    FROM read_json('{events}', format = 'newline_delimited', columns = {columns})
    GROUP BY ALL
    """
)
database.execute(
    f"""
    CREATE TABLE actual AS
    SELECT window_start, user_id, event_type, app_type, event_count, session_ids FROM read_parquet('{out}/**/*.parquet')
    """
)
missing = database.sql("SELECT count(*) FROM (FROM expected EXCEPT ALL FROM actual)").fetchall()[0][0]
extra = database.sql("SELECT count(*) FROM (FROM actual EXCEPT ALL FROM expected)").fetchall()[0][0]
rows = database.sql("SELECT count(*) FROM actual").fetchall()[0][0]
print(f"    {rows} rows, {missing} missing, {extra} extra")
sys.exit(1 if missing or extra or not rows else 0)
