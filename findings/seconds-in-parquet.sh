#!/usr/bin/env bash
# DataFusion 55.0.0 (Python) writes; DuckDB 2.0.1, pyarrow 26.0.1, polars 2.1.0 read: times of whole seconds in Parquet.
#
# to_timestamp_seconds() and date arithmetic give a Timestamp(s), a unit that Parquet lacks. DataFusion writes such a column as a plain number
# and says only in its own Arrow note that it is a time. DataFusion and polars follow the note; DuckDB and pyarrow read BIGINT, so a
# view over the table compares a number with a date, or a table of several writers has two types.
# What to do: CAST(... AS TIMESTAMP), which is nanoseconds, or arrow_cast(..., 'Timestamp(Microsecond, None)'), before writing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datafusion==55.0.0 duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import datafusion, duckdb, polars, pyarrow.parquet

context = datafusion.SessionContext()
context.sql("SELECT to_timestamp_seconds(1767225600) AS moment").write_parquet("times")
files = "times/*.parquet"
[[kind]] = duckdb.sql(f"SELECT typeof(moment) FROM '{files}'").fetchall()
read = {
    "DuckDB": kind,
    "pyarrow": str(pyarrow.parquet.read_table("times").schema.field("moment").type),
    "polars": str(polars.read_parquet(files)["moment"].dtype),
    "DataFusion": str(datafusion.SessionContext().read_parquet("times").schema().field("moment").type),
}
for reader, kind in read.items():
    print(f"{reader} reads {kind}")
assert read["DuckDB"] == "BIGINT" and read["pyarrow"] == "int64", "it has changed"
assert read["polars"].startswith("Datetime") and read["DataFusion"].startswith("timestamp"), "it has changed"
PYTHON
