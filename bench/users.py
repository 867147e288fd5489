"""Master data for data-enrichment, nine of ten users that generate knows: users.py OUT.parquet USERS"""

import sys

import duckdb

out, users = sys.argv[1:]
duckdb.execute(
    f"""
    COPY (
        SELECT format('user_{{:06d}}', i) AS user_id, 'User ' || i AS name, ['CH', 'FR', 'PT'][1 + i % 3] AS country,
               i % 7 <> 0 AS verified, ['desktop', 'mobile', 'tablet'][1 + i % 3] AS device_type,
               DATE '2020-01-01' + CAST(i % 2000 AS INTEGER) AS signup_date
        FROM range({int(users)}) AS t(i) WHERE i % 10 <> 3
    ) TO '{out}' (FORMAT parquet)
    """
)
