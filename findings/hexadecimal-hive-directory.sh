#!/usr/bin/env bash
# DuckDB 2.0.1: types of Hive directories, guessed from their names.
#
# A directory whose value reads as a number becomes BIGINT. Care is taken of leading zeros and signs (007 and +49 stay text),
# but not of C's notation: p=0x10 is the number 16, and `p = '0x10'` finds no row. A key that is a hexadecimal hash by accident
# or by design changes its type, and only in folders where every value reads so.
# What to do: hive_types={'p': VARCHAR}, or hive_types_autocast=false.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import os, duckdb, pyarrow, pyarrow.parquet

seen = {}
for value in ["007", "+49", "1e3", "0x10"]:
    folder = f"table_{value}/p={value}"
    os.makedirs(folder)
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), f"{folder}/f.parquet")
    table = f"read_parquet('table_{value}/*/*.parquet', hive_partitioning = true)"
    kind, text = duckdb.sql(f"SELECT typeof(p), p::varchar FROM {table}").fetchall()[0]
    found = duckdb.sql(f"SELECT count(*) FROM {table} WHERE p::varchar = '{value}'").fetchall()[0][0]
    seen[value] = (kind, text, found)
    print(f"p={value}: {kind} {text}, rows found by its name: {found}")
assert [kind for kind, _, _ in seen.values()] == ["VARCHAR", "VARCHAR", "VARCHAR", "BIGINT"], "it has changed"
assert seen["0x10"] == ("BIGINT", "16", 0), "it has changed"
PYTHON
