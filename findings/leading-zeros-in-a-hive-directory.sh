#!/usr/bin/env bash
# pyarrow 26.0.1, polars 2.1.0, chdb 4.4.0, DuckDB 2.0.1, DataFusion 55.0.0 (Python): `zip=01234` as a directory.
#
# Readers guess the type of a Hive directory from the values that are there on that day. Where all look like whole numbers,
# pyarrow, polars and chdb (ClickHouse) make them numbers and 01234 becomes 1234; DuckDB looks for leading zeros and keeps the text, and
# DataFusion guesses nothing. With one more directory, `zip=K1A 0B1`, pyarrow and polars give texts: the column changes its type and its
# values, for rows that were there before, and until then a join on the text finds nothing.
# What to do: tell the type (pyarrow: partitioning(schema, flavor="hive"), polars: hive_schema), or partition by a text that nobody
# takes for a number.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  duckdb==2.0.1 pyarrow==26.0.1 polars==2.1.0 datafusion==55.0.0 chdb==4.4.0
cat >seen.py <<'PYTHON'
import os, chdb, datafusion, duckdb, polars, pyarrow, pyarrow.dataset, pyarrow.parquet

DUCKDB = "'table/*/*.parquet', hive_partitioning = true"
TOLD = pyarrow.dataset.partitioning(pyarrow.schema([("zip", pyarrow.string())]), flavor="hive")

def write(code):
    os.makedirs(f"table/zip={code}")
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), f"table/zip={code}/f.parquet")

def by_datafusion():
    context = datafusion.SessionContext()
    context.sql("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'table/'")
    return context.sql("SELECT zip FROM t").to_arrow_table()

def read(*names):
    tables = {
        "pyarrow": lambda: pyarrow.dataset.dataset("table", partitioning="hive").to_table(),
        "polars": lambda: polars.read_parquet("table").to_arrow(),
        "chdb": lambda: chdb.query("SELECT zip FROM file('table/*/*.parquet')", "ArrowTable"),
        "DuckDB": lambda: duckdb.sql(f"SELECT zip FROM read_parquet({DUCKDB})").to_arrow_table(),
        "DataFusion": by_datafusion,
        "pyarrow, told": lambda: pyarrow.dataset.dataset("table", partitioning=TOLD).to_table(),
        "polars, told": lambda: polars.read_parquet("table", hive_schema={"zip": polars.String}).to_arrow(),
    }
    values = {name: sorted(tables[name]()["zip"].to_pylist(), key=str) for name in names}
    for name, seen in values.items():
        print(f"{name}: {seen}")
    return values

write("01234")
write("98765")
numbers, texts = [1234, 98765], ["01234", "98765"]
alone = read("pyarrow", "polars", "chdb", "DuckDB", "DataFusion", "pyarrow, told", "polars, told")
print("with one more directory, zip=K1A 0B1:")
write("K1A 0B1")
together = read("pyarrow", "polars", "DuckDB", "DataFusion")
assert {name for name, values in alone.items() if values == numbers} == {"pyarrow", "polars", "chdb"}, "it has changed"
assert all(values in (numbers, texts) for values in alone.values()), "it has changed"
assert all(values == [*texts, "K1A 0B1"] for values in together.values()), "it has changed"
PYTHON
venv/bin/python seen.py
