#!/usr/bin/env bash
# DuckDB 2.0.1, DataFusion 55.0.0 (Python), pyarrow 26.0.1: rows with NaN and a filter over a Parquet file.
#
# Both engines say that NaN is greater than every number: `x > 5` is true for it. Parquet leaves NaN out of a column's
# statistics, as the format asks. So a row group with 1.0, 2.0 and NaN says that its greatest value is 2.0, both engines
# skip it for `x > 5`, and the row is there when the table is in memory and gone when it is a file.
# What to do: store no NaN (write null), or filter with isnan() as well.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 datafusion==55.0.0 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import datafusion, duckdb, pyarrow, pyarrow.parquet

pyarrow.parquet.write_table(pyarrow.table({"x": [1.0, float("nan"), 2.0]}), "nan.parquet")
statistics = pyarrow.parquet.ParquetFile("nan.parquet").metadata.row_group(0).column(0).statistics
print("statistics of the row group:", statistics.min, statistics.max)

memory = "(VALUES (1.0::double), ('NaN'::double), (2.0::double)) AS t(x)"
seen = {
    "DuckDB, in memory": duckdb.sql(f"SELECT count(*) FROM {memory} WHERE x > 5").fetchall()[0][0],
    "DuckDB, file": duckdb.sql("SELECT count(*) FROM 'nan.parquet' WHERE x > 5").fetchall()[0][0],
}
context = datafusion.SessionContext()
context.register_parquet("file", "nan.parquet")
count = lambda table: context.sql(f"SELECT count(*) AS n FROM {table} WHERE x > 5").to_pydict()["n"][0]
seen["DataFusion, in memory"] = count(memory)
seen["DataFusion, file"] = count("file")
for what, rows in seen.items():
    print(f"{what}: {rows} rows with x > 5")
assert list(seen.values()) == [1, 0, 1, 0], "it has changed"
PYTHON
