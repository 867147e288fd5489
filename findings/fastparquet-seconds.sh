#!/usr/bin/env bash
# fastparquet 2026.9.0, pandas 3.1.1, DuckDB 2.0.1 (Python): times of whole seconds, written by fastparquet.
#
# Parquet has no unit of seconds, so a writer must multiply. Of pandas' datetime64[s], which is what DuckDB's TIMESTAMP_S
# becomes in a frame, fastparquet takes the seconds for microseconds and writes milliseconds: the first of January 2026 is written as 29 minutes
# after the beginning of 1970. There is no error; milliseconds, microseconds and nanoseconds are written as they are.
# What to do: frame.astype("datetime64[us]") before, or pyarrow to write.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fastparquet==2026.9.0 pandas==3.1.1 duckdb==2.0.1
venv/bin/python - <<'PYTHON'
import datetime
import duckdb, fastparquet

frame = duckdb.sql("SELECT TIMESTAMP_S '2026-01-01 00:00:00' AS moment").df()
written = {}
for unit in ["s", "ms", "us", "ns"]:
    fastparquet.write("times.parquet", frame.astype(f"datetime64[{unit}]"))
    [(written[unit],)] = duckdb.sql("SELECT moment::TIMESTAMP FROM 'times.parquet'").fetchall()
    print(f"datetime64[{unit}] 2026-01-01 00:00:00 is read as {written[unit]}")
right = datetime.datetime(2026, 1, 1)
assert str(frame["moment"].dtype) == "datetime64[s]", "it has changed"
assert written == {"s": datetime.datetime(1970, 1, 1, 0, 29, 27, 225000), "ms": right, "us": right, "ns": right}, "it has changed"
PYTHON
