#!/usr/bin/env bash
# DataFusion 55.0.0 (Python), DuckDB 2.0.1, polars 2.1.0: how long a session took, in milliseconds and in seconds.
#
# The difference of two timestamps is a duration. Of one of 26 days DataFusion's date_part('millisecond', ...) is -2,048,567,296, of one of an
# hour date_part('microsecond', ...) is -694,967,296: seconds times a factor in 32 bits, which wraps without a word. date_part('epoch', ...), a double,
# and the milliseconds have their fraction of a second up to 2.147 seconds (2,147,483,647 nanoseconds), and above only whole seconds. DuckDB (epoch, epoch_ms) and polars
# (total_milliseconds) give what is meant. A cast of the duration to BIGINT is exact in DataFusion too.
# What to do: divide CAST(ended - started AS BIGINT), which counts nanoseconds here. Our SQL counts these parts itself, and refuses what does
# not fit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datafusion==55.0.0 duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import datetime
import datafusion, duckdb, polars

context = datafusion.SessionContext()
begin = datetime.datetime(2025, 1, 1)
lengths = {
    "2 s": datetime.timedelta(seconds=2, milliseconds=123),
    "10 minutes": datetime.timedelta(minutes=10, seconds=2, milliseconds=123),
    "an hour": datetime.timedelta(hours=1),
    "26 days": datetime.timedelta(days=26),
}
expected = {  # epoch, milliseconds, microseconds of DataFusion
    "2 s": (2.123, 2123, 2123000),
    "10 minutes": (602.0, 602000, 602000000),
    "an hour": (3600.0, 3600000, -694967296),
    "26 days": (2246400.0, -2048567296, None),
}
right = True
for name, length in lengths.items():
    end = begin + length
    duration = f"(TIMESTAMP '{end.isoformat()}' - TIMESTAMP '{begin.isoformat()}')"
    parts = ", ".join(f"date_part('{part}', {duration}) AS {part}" for part in ("epoch", "millisecond", "microsecond"))
    row = context.sql(f"SELECT {parts}, CAST({duration} AS BIGINT) AS whole FROM (VALUES (1)) AS t").to_pylist()[0]
    found = (row["epoch"], row["millisecond"], row["microsecond"])
    meant = length // datetime.timedelta(milliseconds=1)
    in_duckdb = duckdb.execute(f"SELECT CAST(epoch(TIMESTAMP '{end}' - TIMESTAMP '{begin}') AS DOUBLE)").fetchone()[0]
    in_polars = polars.Series([length]).dt.total_milliseconds()[0]
    print(f"{name}: DataFusion epoch, ms, us {found}, as BIGINT {row['whole']}; DuckDB epoch {in_duckdb}; polars ms {in_polars}; meant ms {meant}")
    as_seen = all(e is None or e == f for e, f in zip(expected[name], found))
    right &= as_seen and row["whole"] == meant * 1_000_000 and abs(in_duckdb * 1000 - meant) < 1e-6 and in_polars == meant
raise SystemExit(0 if right else "this has changed: the finding is out of date")
PYTHON
