#!/usr/bin/env bash
# DataFusion 55.0.0 (Python), beside DuckDB 2.0.1 and SQLite: NOT IN over a subquery that names the outer row.
#
# The subquery of the order without a customer is empty, and nothing is in an empty set: the order stays, says SQL, and say DuckDB and
# SQLite. DataFusion makes an anti join of it and loses the order, without a word.
# What to do: NOT EXISTS, which keeps it in all three; docs/sql.md says so for queries of data-platform, which are DataFusion's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datafusion==55.0.0 duckdb==2.0.1
venv/bin/python - <<'PYTHON'
import sqlite3
import datafusion, duckdb

orders = """
WITH orders(id, customer) AS (VALUES (1, 10), (2, 20), (3, NULL)),
     blocked(customer, region) AS (VALUES (10, 'eu'), (20, 'us'))
SELECT id FROM orders WHERE {} ORDER BY id
"""
blocked = "(SELECT blocked.customer FROM blocked WHERE region = 'eu' AND blocked.customer = orders.customer)"
engines = {
    "DataFusion": lambda sql: [id for batch in datafusion.SessionContext().sql(sql).collect() for id in batch["id"].to_pylist()],
    "DuckDB": lambda sql: [id for (id,) in duckdb.sql(sql).fetchall()],
    "SQLite": lambda sql: [id for (id,) in sqlite3.connect(":memory:").execute(sql).fetchall()],
}
for engine, rows in engines.items():
    not_in, not_exists = rows(orders.format(f"customer NOT IN {blocked}")), rows(orders.format(f"NOT EXISTS {blocked}"))
    print(f"{engine}: NOT IN {not_in}, NOT EXISTS {not_exists}")
    expected = [2] if engine == "DataFusion" else [2, 3]
    assert (not_in, not_exists) == (expected, [2, 3]), "it has changed"
PYTHON
