#!/usr/bin/env bash
# pyarrow 26.0.1, pandas 3.1.1, fastparquet 2026.9.0, DuckDB 2.0.1, polars 2.1.0, DataFusion 55.0.0 (Python), chdb 4.4.0: a Parquet file
# whose timestamps are INT96, as Spark wrote them for years and Hive and Impala still do, with the day that says "for ever".
#
# 9999-12-31, the usual end of a version's validity, comes back as a day of 1816 from pyarrow, pandas and fastparquet: they count in
# nanoseconds of 64 bits, which end in 2262 and begin anew without a word, so that every row is long expired. chdb refuses the file. DuckDB,
# polars and DataFusion give what was written. pyarrow does when it is told coerce_int96_timestamp_unit="us".
# What to do: rewrite such files once with microseconds; data-platform writes no INT96 and reads it in microseconds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1 pandas==3.1.1 fastparquet==2026.9.0 duckdb==2.0.1 polars==2.1.0 \
  datafusion==55.0.0 chdb==4.4.0
venv/bin/python - <<'PYTHON'
import datetime
import chdb, datafusion, duckdb, fastparquet, pandas, polars, pyarrow, pyarrow.parquet as parquet

ends = pyarrow.array([datetime.datetime(9999, 12, 31)], pyarrow.timestamp("us"))
parquet.write_table(pyarrow.table({"valid_to": ends}), "users.parquet", use_deprecated_int96_timestamps=True)

readers = {
    "pyarrow": lambda: parquet.read_table("users.parquet")["valid_to"][0].as_py(),
    "pyarrow, told microseconds": lambda: parquet.read_table("users.parquet", coerce_int96_timestamp_unit="us")["valid_to"][0].as_py(),
    "pandas": lambda: pandas.read_parquet("users.parquet", engine="pyarrow")["valid_to"][0],
    "fastparquet": lambda: fastparquet.ParquetFile("users.parquet").to_pandas()["valid_to"][0],
    "DuckDB": lambda: duckdb.sql("SELECT valid_to FROM 'users.parquet'").fetchall()[0][0],
    "polars": lambda: polars.read_parquet("users.parquet")["valid_to"][0],
    "DataFusion": lambda: datafusion.SessionContext().read_parquet("users.parquet").collect()[0]["valid_to"][0].as_py(),
    "chdb": lambda: str(chdb.query("SELECT valid_to FROM file('users.parquet')")).strip().strip('"'),
}
found = {}
for reader, read in readers.items():
    try:
        found[reader] = str(read())[:10]
    except Exception as error:
        found[reader] = "refused" if "INT96" in str(error) else str(error)
    print(f"{reader}: {found[reader]}")
expected = dict.fromkeys(readers, "9999-12-31") | dict.fromkeys(["pyarrow", "pandas", "fastparquet"], "1816-03-29") | {"chdb": "refused"}
assert found == expected, "it has changed"
PYTHON
