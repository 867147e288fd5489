#!/usr/bin/env bash
# DuckDB 2.0.1, polars 2.1.0, pandas 3.1.1, pyarrow 26.0.1, DataFusion 55.0.0 (Python), chdb 4.4.0: rows per hour on the day when clocks go back.
#
# On 25 October 2026 the hour from two to three comes twice in Berlin. Instants with a zone know which of the two they are in. Brought to
# their hour, polars, DataFusion, chdb (ClickHouse) and DuckDB's time_bucket give two hours with two rows each. DuckDB's date_trunc gives
# one with four. pandas' floor and pyarrow's floor_temporal refuse ("ambiguous"), though the instants are not; pandas' resample counts right.
# What to do: cut hours in UTC, or time_bucket.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 polars==2.1.0 pandas==3.1.1 pyarrow==26.0.1 datafusion==55.0.0 chdb==4.4.0 tzdata
venv/bin/python - <<'PYTHON'
import datetime
import chdb, datafusion, duckdb, pandas, polars, pyarrow, pyarrow.compute

instants = [datetime.datetime(2026, 10, 25, hour, minute, tzinfo=datetime.UTC) for hour in (0, 1) for minute in (15, 45)]
rows = pyarrow.table({"t": pyarrow.array(instants, pyarrow.timestamp("us", "Europe/Berlin"))})
database = duckdb.connect()
database.execute("SET TimeZone = 'Europe/Berlin'")
database.register("r", rows)
context = datafusion.SessionContext()
context.register_record_batches("r", [rows.to_batches()])
local = pandas.Series(instants).dt.tz_convert("Europe/Berlin")
values = ", ".join(f"toDateTime({int(instant.timestamp())}, 'Europe/Berlin')" for instant in instants)

def refused(ask):
    try:
        ask()
    except Exception as error:
        return "refused" if "mbiguous" in str(error) or "infer dst" in str(error) else str(error)
    return "taken"

hours = {
    "DuckDB date_trunc": sorted(n for (n,) in database.sql("SELECT count(*) FROM r GROUP BY date_trunc('hour', t)").fetchall()),
    "DuckDB time_bucket": sorted(n for (n,) in database.sql("SELECT count(*) FROM r GROUP BY time_bucket(INTERVAL '1 hour', t)").fetchall()),
    "polars": sorted(polars.from_arrow(rows).group_by(polars.col("t").dt.truncate("1h")).len()["len"]),
    "DataFusion": sorted(context.sql("SELECT count(*) AS n FROM r GROUP BY date_trunc('hour', t)").to_pydict()["n"]),
    "chdb": [int(n) for n in str(chdb.query(f"SELECT count() FROM (SELECT arrayJoin([{values}]) AS t) GROUP BY toStartOfHour(t)")).split()],
    "pandas resample": list(pandas.Series(1, index=pandas.DatetimeIndex(local)).resample("h").sum()),
    "pandas floor": refused(lambda: local.dt.floor("h")),
    "pyarrow floor_temporal": refused(lambda: pyarrow.compute.floor_temporal(rows["t"], 1, "hour")),
}
for who, counts in hours.items():
    print(f"{who}: {counts}")
assert {who for who, counts in hours.items() if counts == [4]} == {"DuckDB date_trunc"}, "it has changed"
assert {who for who, counts in hours.items() if counts == "refused"} == {"pandas floor", "pyarrow floor_temporal"}, "it has changed"
assert sum(counts == [2, 2] for counts in hours.values()) == 5, "it has changed"
PYTHON
