#!/usr/bin/env bash
# deltalake 1.6.6 (Python) writes; deltalake 1.6.6, polars 2.1.0 and DuckDB 1.5.5 with its delta extension 1.5.5 read: DECIMAL(18, 2) in a Delta table.
#
# deltalake writes the least and the greatest decimal of a file into the table's log as floating point numbers: 123456789012345.67 becomes
# 123456789012345.69, and 1000000000000000.01 becomes 1000000000000000.0, so that the row lies outside of the bounds of its own file. Every
# reader that leaves out files by these bounds leaves out the row: it is in SELECT *, and not in WHERE amount = (its own value), also for
# deltalake itself. Numbers of at most 15 digits are not affected.
# What we do: bounds of decimals are written with all their digits.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  deltalake==1.6.6 pyarrow==26.0.1 polars==2.1.0 duckdb==1.5.5 duckdb-extension-delta==1.5.5
venv/bin/python - <<'PYTHON'
import glob, json, os
from decimal import Decimal

import deltalake, duckdb, duckdb_extension_delta, polars, pyarrow

extension = glob.glob(os.path.dirname(duckdb_extension_delta.__file__) + "/extensions/*/delta.duckdb_extension")[0]
connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
connection.execute(f"LOAD '{extension}'")

def seen(text, where):
    """The bounds in the log, and how many rows each reader finds."""
    table, value = f"t{len(glob.glob('t*'))}", Decimal(text)
    deltalake.write_deltalake(table, pyarrow.table({"amount": pyarrow.array([value], pyarrow.decimal128(18, 2))}))
    lines = open(f"{table}/_delta_log/00000000000000000000.json").read().splitlines()
    (added,) = [json.loads(line)["add"] for line in lines if "add" in json.loads(line)]
    bounds = json.loads(added["stats"], parse_float=str)
    condition = f"amount {where} CAST('{text}' AS DECIMAL(18, 2))"
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(table))
    amount, literal = polars.col("amount"), polars.lit(value).cast(polars.Decimal(18, 2))
    conditions = {"=": amount == literal, "<=": amount <= literal, ">=": amount >= literal}
    readers = {
        "all rows": connection.sql(f"SELECT count(*) FROM delta_scan('{table}')").fetchone()[0],
        "DuckDB": connection.sql(f"SELECT count(*) FROM delta_scan('{table}') WHERE {condition}").fetchone()[0],
        "deltalake": pyarrow.table(query.execute(f"SELECT count(*) AS n FROM t WHERE {condition}"))["n"][0].as_py(),
        "polars": polars.scan_delta(table).filter(conditions[where]).collect().height,
    }
    print(f"{text}: bounds {bounds['minValues']['amount']} to {bounds['maxValues']['amount']}; WHERE amount {where} {text}: {readers}")
    return list(readers.values())

found, lost = [1, 1, 1, 1], [1, 0, 0, 0]
assert seen("123456789012345.67", "=") == lost, "it has changed"
assert seen("123456789012345.67", "<=") == lost, "it has changed"
assert seen("1000000000000000.01", "=") == lost, "it has changed"
assert seen("1000000000000000.01", ">=") == lost, "it has changed"
assert seen("12345678901.78", "=") == found, "it has changed"
PYTHON
