#!/usr/bin/env bash
# pyarrow 26.0.1, polars 2.1.0, DataFusion 55.0.0, DuckDB 2.0.1 (Python): a table one of whose files is replaced.
#
# Replacing a file by rename is how a batch job corrects a day: whoever opens the folder sees the old file or the new one. A pyarrow
# dataset, a polars LazyFrame and a DataFusion session that looked at the folder before remember its list of files and their footers: counts
# stay those of the old file, without an error, and files that came later are not there. Rows are read with the old footer from the
# new file, and that fails with a message that speaks of a corrupt file. DuckDB looks anew at each query, also through a view.
# What to do: make dataset, LazyFrame and session anew for each look at the table.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 pyarrow==26.0.1 polars==2.1.0 datafusion==55.0.0
venv/bin/python - <<'PYTHON'
import os, datafusion, duckdb, polars, pyarrow, pyarrow.dataset, pyarrow.parquet

def write(name, rows):
    os.makedirs("table/day=2026-02-16", exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"n": range(rows)}), "next")
    os.rename("next", f"table/day=2026-02-16/{name}.parquet")

write("first", 1000)
dataset = pyarrow.dataset.dataset("table", partitioning="hive")
frame = polars.scan_parquet("table")
context = datafusion.SessionContext()
context.sql("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'table/'")
database = duckdb.connect()
database.execute("CREATE VIEW t AS FROM read_parquet('table/*/*.parquet')")
count = {
    "pyarrow": dataset.count_rows,
    "polars": lambda: frame.select(polars.len()).collect().item(),
    "DataFusion": lambda: context.sql("SELECT count(*) AS n FROM t").to_pydict()["n"][0],
    "DuckDB": lambda: database.sql("SELECT count(*) FROM t").fetchall()[0][0],
}
before = {name: ask() for name, ask in count.items()}
write("first", 10)
write("second", 7)
after = {name: ask() for name, ask in count.items()}
for name in count:
    print(f"{name}: {before[name]} rows, after the replacement {after[name]}; there are 17")
try:
    dataset.to_table()
    rows = "read"
except OSError as error:
    rows = str(error)
print("rows by the dataset of before:", rows)
anew = pyarrow.dataset.dataset("table", partitioning="hive").count_rows(), polars.scan_parquet("table").collect().height
assert set(before.values()) == {1000} and anew == (17, 17)
assert after == {"pyarrow": 1000, "polars": 1000, "DataFusion": 1000, "DuckDB": 17}, "it has changed"
assert rows != "read", "it has changed"
PYTHON
