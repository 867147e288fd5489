"""Compares the tables that a job wrote with DuckDB's answer: verify.py OUTPUTS PEER [--open]

PEER holds the answer's TABLE.parquet. Row for row, in the columns that the answer has; ends with 1 on any difference. With --open
windows behind the last one that was written may be missing.
"""

import glob
import os
import sys

import duckdb

# Their JSON is compared by what it means: DuckDB writes numbers anew.
JSON = {"record_data", "old_record", "new_record"}
# A set has no order.
SETS = {"session_ids"}

outputs, peer, *options = sys.argv[1:]
database = duckdb.connect()
database.execute("SET TimeZone = 'UTC'")
failed = False
answers = sorted(glob.glob(os.path.join(peer, "*.parquet")))
for answer in answers:
    table = os.path.basename(answer).removesuffix(".parquet")
    columns = [row[0] for row in database.sql(f"DESCRIBE FROM '{answer}'").fetchall() if row[0] != "processing_time"]
    forms = {**dict.fromkeys(JSON, "CAST(json({0}) AS VARCHAR) AS {0}"), **dict.fromkeys(SETS, "list_sort({0}) AS {0}")}
    values = ", ".join(forms.get(name, '"{0}"').format(name) for name in columns)
    database.execute(f"CREATE OR REPLACE TEMP TABLE expected AS SELECT {values} FROM '{answer}'")
    database.execute(f"CREATE OR REPLACE TEMP TABLE actual AS SELECT {values} FROM '{outputs}/{table}/**/*.parquet'")
    if options == ["--open"]:
        database.execute("DELETE FROM expected WHERE window_start > (SELECT max(window_start) FROM actual)")
    missing = database.sql("SELECT count(*) FROM (FROM expected EXCEPT ALL FROM actual)").fetchall()[0][0]
    extra = database.sql("SELECT count(*) FROM (FROM actual EXCEPT ALL FROM expected)").fetchall()[0][0]
    rows = database.sql("SELECT count(*) FROM actual").fetchall()[0][0]
    print(f"    {table}: {rows} rows, {missing} missing, {extra} extra")
    failed |= bool(missing or extra or not rows)
sys.exit(1 if failed or not answers else 0)
