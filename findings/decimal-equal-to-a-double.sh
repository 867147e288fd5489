#!/usr/bin/env bash
# DataFusion 55.0.0 (Python), DuckDB 2.0.1, polars 2.1.0, pyarrow 26.0.1: is the decimal 316665 equal to the double 316665.0?
#
# In DataFusion it is not, nor are 454,852 of the first million whole numbers. Where a DECIMAL meets a DOUBLE it casts the double to a decimal with 15
# digits after the point, by a multiplication of doubles: 316665.0 becomes 316664.999999999967232. No decimal needs to be written for it: row_number() is
# unsigned, unsigned less a BIGINT is a decimal, so `WHERE place = floor(0.95 * last)` over `row_number() OVER (...) - 1 AS place` finds the median of
# 333,333 rows and no row for p95. Equi-joins lose rows likewise. DuckDB and polars cast the decimal to double for a comparison, so all are equal, and
# have the same 316664.999999999967232 where a CAST is written; pyarrow casts to 316665.000000000000000.
# What to do: CAST both sides to one type. Our SQL makes the decimal of the digits that the double is shown with.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datafusion==55.0.0 duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
from decimal import Decimal

import datafusion, duckdb, polars, pyarrow
import pyarrow.compute

NUMBERS = 1_000_000
context = datafusion.SessionContext()
in_datafusion = lambda sql: context.sql(sql).to_pylist()[0]
in_duckdb = lambda sql: duckdb.execute(sql).fetchone()

numbers = "count(*) FILTER (WHERE CAST(value AS DECIMAL(20,0)) = CAST(value AS DOUBLE)) AS equal"
of_datafusion = in_datafusion(f"SELECT {numbers} FROM generate_series(1, {NUMBERS})")["equal"]
of_duckdb = in_duckdb(f"SELECT {numbers} FROM range(1, {NUMBERS + 1}) AS t(value)")[0]
value = polars.col("value")
frame = polars.DataFrame({"value": range(1, NUMBERS + 1)})
of_polars = frame.select((value.cast(polars.Decimal(20, 0)) == value.cast(polars.Float64)).sum()).item()
print(f"whole numbers to {NUMBERS}, as decimal and as double equal: DataFusion {of_datafusion}, DuckDB {of_duckdb}, polars {of_polars}")

places = "SELECT row_number() OVER (ORDER BY value) - 1 AS place FROM"
found = {}
for share in (0.5, 0.95):
    where = f"WHERE place = floor(333332 * {share})"
    found[share] = (
        in_datafusion(f"SELECT count(*) AS rows FROM ({places} generate_series(1, 333333)) AS t {where}")["rows"],
        in_duckdb(f"SELECT count(*) FROM ({places} range(1, 333334) AS s(value)) AS t {where}")[0],
    )
    print(f"rows at the place of {share} of 333,333: DataFusion {found[share][0]}, DuckDB {found[share][1]}")

joined = in_datafusion(
    "SELECT count(*) AS rows FROM generate_series(316660, 316670) AS a JOIN "
    "(SELECT CAST(value AS DOUBLE) AS d FROM generate_series(316660, 316670)) AS b ON CAST(a.value AS DECIMAL(12,0)) = b.d"
)["rows"]
print(f"rows of 11 that a join in DataFusion finds: {joined}")

casts = {
    "DataFusion": in_datafusion("SELECT arrow_cast(316665.0, 'Decimal128(35, 15)') AS d")["d"],
    "DuckDB": in_duckdb("SELECT CAST(316665e0 AS DECIMAL(35,15))")[0],
    "polars": polars.Series([316665.0]).cast(polars.Decimal(35, 15))[0],
    "pyarrow": pyarrow.compute.cast(pyarrow.array([316665.0]), pyarrow.decimal128(35, 15))[0].as_py(),
}
print("316665.0 as DECIMAL(35,15): " + ", ".join(f"{name} {value}" for name, value in casts.items()))

lossy = Decimal("316664.999999999967232")
as_seen = (
    of_datafusion == 545_148 and of_duckdb == of_polars == NUMBERS
    and found == {0.5: (1, 1), 0.95: (0, 1)} and joined == 6
    and casts == {"DataFusion": lossy, "DuckDB": lossy, "polars": lossy, "pyarrow": Decimal(316665)}
)
raise SystemExit(0 if as_seen else "this has changed: the finding is out of date")
PYTHON
