#!/usr/bin/env bash
# DataFusion 55.0.0: where one file says "Id" and the next one "id", half of the ids are null.
#
# Spark and Hive write names of columns as a query spells them, and read them in any case. A table of Parquet files whose job
# was rewritten so has "Id" in old files and "id" in new ones. DuckDB reads both as one column; pyarrow and polars refuse to.
# DataFusion reads `id` of the old files as null, and says nothing: count(id) is one, of two rows.
# What to do: rename the column in a view over the old files, or write the table anew; SELECT * shows both columns.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datafusion==55.0.0 duckdb==2.0.0 pyarrow==26.0.1 polars==2.1.0
venv/bin/python - <<'PYTHON'
import os

import datafusion
import duckdb
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

os.mkdir("t")
pyarrow.parquet.write_table(pa.table({"Id": [1]}), "t/1.parquet")
pyarrow.parquet.write_table(pa.table({"id": [2]}), "t/2.parquet")


def told(read):
    try:
        return sorted(read(), key=str)
    except Exception:  # each library has its own
        return "refused"


context = datafusion.SessionContext()
context.register_parquet("t", "t/")
found = {
    "DuckDB": told(lambda: [row[0] for row in duckdb.sql("SELECT id FROM 't/*.parquet'").fetchall()]),
    "pyarrow": told(lambda: pa.dataset.dataset("t").to_table(columns=["id"])["id"].to_pylist()),
    "polars": told(lambda: polars.scan_parquet("t/*.parquet").select("id").collect()["id"].to_list()),
    "DataFusion": told(lambda: context.sql("SELECT id FROM t").to_pydict()["id"]),
}
for name, ids in found.items():
    print(f"{name:10} {ids}")
assert found["DuckDB"] == [1, 2] and found["pyarrow"] == found["polars"] == "refused", "it has changed"
assert found["DataFusion"] == [2, None], "it has changed"
PYTHON
