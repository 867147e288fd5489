#!/usr/bin/env bash
# DuckDB 2.0.1, pyarrow 26.0.1, polars 2.1.0, DataFusion 55.0.0, chdb 4.4.0 (Python): the Hive directory that means null.
#
# Hive, Spark and all who write as they do put rows without a value into `p=__HIVE_DEFAULT_PARTITION__`. DuckDB, pyarrow and polars
# read null; DataFusion and chdb (ClickHouse) read the text, which is greater than every date: `day > '2026-12-31'` finds the rows that
# have no day, and `day IS NULL` finds none. Where the column is given as DATE, DataFusion reads no row of the table any more.
# What to do: NULLIF(p, '__HIVE_DEFAULT_PARTITION__') in DataFusion and chdb.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  duckdb==2.0.1 pyarrow==26.0.1 polars==2.1.0 datafusion==55.0.0 chdb==4.4.0
cat >seen.py <<'PYTHON'
import os, chdb, datafusion, duckdb, polars, pyarrow, pyarrow.dataset, pyarrow.parquet

for row, day in enumerate(["2026-02-16", "__HIVE_DEFAULT_PARTITION__"]):
    os.makedirs(f"table/day={day}")
    pyarrow.parquet.write_table(pyarrow.table({"a": [row]}), f"table/day={day}/f.parquet")

def by_datafusion():
    context = datafusion.SessionContext()
    context.sql("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'table/'")
    return context.sql("SELECT day FROM t").to_arrow_table()

days = {
    "DuckDB": duckdb.sql("SELECT day FROM read_parquet('table/*/*.parquet', hive_partitioning = true)").to_arrow_table(),
    "pyarrow": pyarrow.dataset.dataset("table", partitioning="hive").to_table(),
    "polars": polars.read_parquet("table").to_arrow(),
    "DataFusion": by_datafusion(),
    "chdb": chdb.query("SELECT day FROM file('table/*/*.parquet')", "ArrowTable"),
}
days = {name: {str(day) for day in table["day"].to_pylist()} for name, table in days.items()}
for name, seen in days.items():
    print(f"{name}: {', '.join(sorted(seen))}")

context = datafusion.SessionContext()
context.register_parquet("t", "table/", table_partition_cols=[("day", pyarrow.date32())])
try:
    context.sql("SELECT a FROM t WHERE a >= 0").collect()
    as_date = "rows"
except Exception as error:
    as_date = str(error)
print("DataFusion, day as DATE:", as_date)

null, text = {"2026-02-16", "None"}, {"2026-02-16", "__HIVE_DEFAULT_PARTITION__"}
assert days == {"DuckDB": null, "pyarrow": null, "polars": null, "DataFusion": text, "chdb": text}, "it has changed"
assert "Cannot cast string '__HIVE_DEFAULT_PARTITION__'" in as_date, "it has changed"
PYTHON
venv/bin/python seen.py
