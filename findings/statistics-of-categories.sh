#!/usr/bin/env bash
# fastparquet 2026.9.0 with pandas 3.1.1 writes; DuckDB 2.0.1, DataFusion 55.0.0 (Python), polars 2.1.0, pyarrow 26.0.1 read: a category in Parquet.
#
# With stats=True fastparquet writes the first and the last category as the least and the greatest text, in the order of the categories and
# not of the texts, into the old fields `min` and `max`, which the format says not to use for texts. pyarrow and polars do not use them. DuckDB
# and DataFusion do. Between the least, "low", and the greatest, "high", there is no text: all rows are in SELECT *, and none in a WHERE level = …
# What to do: write without stats=True, or the column as text.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fastparquet==2026.9.0 pandas==3.1.1 duckdb==2.0.1 datafusion==55.0.0 polars==2.1.0 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import datafusion, duckdb, fastparquet, pandas, polars, pyarrow.parquet

level = pandas.Categorical(["low", "mid", "high"], categories=["low", "mid", "high"])
fastparquet.write("levels.parquet", pandas.DataFrame({"level": level}), stats=True)
[kept] = duckdb.sql("SELECT stats_min, stats_max, stats_min_value, stats_max_value FROM parquet_metadata('levels.parquet')").fetchall()
print(f"min and max: {kept[:2]}, min_value and max_value: {kept[2:]}")

def by_datafusion(value):
    table = datafusion.SessionContext().read_parquet("levels.parquet")
    return table.filter(datafusion.col("level") == datafusion.literal(value)).count()

readers = {
    "DuckDB": lambda value: duckdb.sql(f"SELECT count(*) FROM 'levels.parquet' WHERE level = '{value}'").fetchall()[0][0],
    "DataFusion": by_datafusion,
    "polars": lambda value: polars.scan_parquet("levels.parquet").filter(polars.col("level") == value).collect().height,
    "pyarrow": lambda value: pyarrow.parquet.read_table("levels.parquet", filters=[("level", "==", value)]).num_rows,
}
found = {reader: [read(value) for value in ["low", "mid", "high"]] for reader, read in readers.items()}
for reader, counts in found.items():
    print(f"{reader} finds low, mid, high: {counts}")
lost = {reader for reader, counts in found.items() if counts != [1, 1, 1]}
assert lost == {"DuckDB", "DataFusion"}, "it has changed"
PYTHON
