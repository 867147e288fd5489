#!/usr/bin/env bash
# DuckDB 2.0.0, pyarrow 26.0.1: a column has the type of the first file, and values of later files are changed to fit it.
#
# A table of Parquet files, to which its writer gave a wider type one day. DuckDB rounds the decimal 2.25 of the second file to
# 2.3, and a filter on 2.25 finds nothing; of a timestamp both keep the date alone, where the first file has dates; pyarrow turns
# 1e300 into inf, where the first file has floats. Nothing is said. Where the first file has a narrower integer both end with an
# error, as DuckDB does for floats and pyarrow for decimals. DuckDB with union_by_name = true takes the wider type instead.
# What we do: a type widens where every value stays what it is; anything else is an error that names the column and both files.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.0 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import datetime
import decimal
import os

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

day, later = datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, 23, 59)
TABLES = {
    "decimal": [(decimal.Decimal("1.5"), pa.decimal128(9, 1)), (decimal.Decimal("2.25"), pa.decimal128(9, 2))],
    "date": [(day, pa.date32()), (later, pa.timestamp("us"))],
    "float": [(0.5, pa.float32()), (1e300, pa.float64())],
    "integer": [(1, pa.int32()), (5_000_000_000, pa.int64())],
}


def told(read):
    try:
        return read()
    except Exception as error:  # each library has its own
        return type(error).__name__


found = {}
for name, files in TABLES.items():
    os.mkdir(name)
    for number, (value, kind) in enumerate(files):
        pyarrow.parquet.write_table(pa.table({"x": pa.array([value], kind)}), f"{name}/{number}.parquet")
    rows = told(lambda: [row[0] for row in duckdb.sql(f"FROM '{name}/*.parquet'").fetchall()])
    arrow = told(lambda: pa.dataset.dataset(name).to_table()["x"].to_pylist())
    found[name] = (rows, arrow)
    print(f"{name}: written {[value for value, _ in files]}, DuckDB {rows}, pyarrow {arrow}")
filtered = duckdb.sql("SELECT count(*) FROM 'decimal/*.parquet' WHERE x = 2.25").fetchall()[0][0]
wide = duckdb.sql("SELECT count(*) FROM read_parquet('decimal/*.parquet', union_by_name = true) WHERE x = 2.25").fetchall()[0][0]
print(f"WHERE x = 2.25 in DuckDB: {filtered} rows, with union_by_name {wide}")
assert found["decimal"][0][1] == decimal.Decimal("2.3") and (filtered, wide) == (0, 1), "it has changed"
assert found["date"] == ([day, day], [day, day]), "it has changed"
assert found["float"][1] == [0.5, float("inf")] and isinstance(found["float"][0], str), "it has changed"
assert isinstance(found["decimal"][1], str) and all(isinstance(said, str) for said in found["integer"]), "it has changed"
PYTHON
