#!/usr/bin/env bash
# DuckDB 2.0.1, polars 2.1.0, pandas 3.1.1, pyarrow 26.0.1, DataFusion 55.0.0 (Python), chdb 4.4.0: the window in which an instant lies.
#
# Windows that divide a day lie alike everywhere. Others depend on where counting begins: DuckDB's time_bucket begins on 3 January 2000,
# DataFusion, polars and pandas' floor at 1970, pandas' resample at the first day of the data, chdb (ClickHouse) on each day anew for hours and at
# 1970 for days. A week begins on a Monday or a Thursday, or is named by its last Sunday, and "7 days" is not "1 week" in polars and pandas. So of one
# query in two engines all counts differ.
# What to do: windows that divide a day; where that cannot be, give the origin (DuckDB and DataFusion take one).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 polars==2.1.0 pandas==3.1.1 pyarrow==26.0.1 datafusion==55.0.0 chdb==4.4.0
venv/bin/python - <<'PYTHON'
import datetime
import chdb, datafusion, duckdb, pandas, polars, pyarrow, pyarrow.compute

at = datetime.datetime(2026, 1, 1, 0, 0, 30)
units = {"m": "minute", "h": "hour", "d": "day", "w": "week"}

def whole(text):
    return datetime.datetime.fromisoformat(str(text).strip().strip('"'))

def starts(number, unit):
    name = units[unit]
    yield "DuckDB time_bucket", duckdb.sql(f"SELECT time_bucket(INTERVAL '{number} {name}s', TIMESTAMP '{at}')").fetchall()[0][0]
    yield "DataFusion date_bin", datafusion.SessionContext().sql(
        f"SELECT date_bin(INTERVAL '{number} {name}s', TIMESTAMP '{at}') AS x").to_pydict()["x"][0]
    yield "polars truncate", polars.Series([at]).dt.truncate(f"{number}{unit}")[0]
    rule = f"{number}{ {'m': 'min', 'h': 'h', 'd': 'D', 'w': 'W'}[unit] }"
    yield "pandas resample", pandas.Series(1, index=[pandas.Timestamp(at)]).resample(rule).sum().index[0]
    yield "pyarrow floor_temporal", pyarrow.compute.floor_temporal(pyarrow.scalar(at), number, name).as_py()
    yield "chdb toStartOfInterval", whole(chdb.query(f"SELECT toStartOfInterval(toDateTime('{at}', 'UTC'), INTERVAL {number} {name})"))

seen = {}
for number, unit in [(15, "m"), (7, "m"), (5, "h"), (7, "d"), (1, "w"), (30, "d")]:
    print(f"the window of {number} {units[unit]}(s) in which {at} lies begins")
    for who, start in starts(number, unit):
        seen.setdefault((number, unit), {})[who] = str(start)
        print(f"  {who}: {start:%a %Y-%m-%d %H:%M}")
different = {window: len(set(begins.values())) for window, begins in seen.items()}
assert different == {(15, "m"): 1, (7, "m"): 2, (5, "h"): 2, (7, "d"): 2, (1, "w"): 3, (30, "d"): 3}, f"it has changed: {different}"
PYTHON
