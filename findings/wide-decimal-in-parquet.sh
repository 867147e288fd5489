#!/usr/bin/env bash
# pyarrow 26.0.1, DataFusion 55.0.0 (Python), chdb 4.4.0, DuckDB 2.0.1, fastparquet 2026.9.0, polars 2.1.0: a column DECIMAL(50, 2) in Parquet,
# which the format allows and pyarrow, DataFusion and ClickHouse have a type for.
#
# pyarrow, DataFusion and chdb read the number that was written. DuckDB and fastparquet make a double of the column, so that 41 digits become
# 17 and two amounts that differ by a cent are equal. polars refuses the column.
# What to do: cast to 38 digits before the table; data-platform's decimals have at most 38.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1 datafusion==55.0.0 chdb==4.4.0 duckdb==2.0.1 fastparquet==2026.9.0 \
  pandas==3.1.1 polars==2.1.0
venv/bin/python - <<'PYTHON'
from decimal import Decimal
import chdb, datafusion, duckdb, fastparquet, polars, pyarrow, pyarrow.parquet as parquet

first, second = "12345678901234567890123456789012345678901.25", "12345678901234567890123456789012345678901.26"
totals = pyarrow.array([Decimal(first), Decimal(second)], pyarrow.decimal256(50, 2))
parquet.write_table(pyarrow.table({"id": [1, 2], "total": totals}), "totals.parquet")

readers = {
    "pyarrow": lambda: parquet.read_table("totals.parquet")["total"].to_pylist(),
    "DataFusion": lambda: datafusion.SessionContext().read_parquet("totals.parquet").collect()[0]["total"].to_pylist(),
    "chdb": lambda: str(chdb.query("SELECT total FROM file('totals.parquet') ORDER BY id")).split(),
    "DuckDB": lambda: [total for (total,) in duckdb.sql("SELECT total FROM 'totals.parquet' ORDER BY id").fetchall()],
    "fastparquet": lambda: fastparquet.ParquetFile("totals.parquet").to_pandas()["total"].tolist(),
    "polars": lambda: polars.read_parquet("totals.parquet")["total"].to_list(),
}
found = {}
for reader, read in readers.items():
    try:
        values = [str(value) for value in read()]
        found[reader] = "two amounts" if values == [first, second] else "one double" if len(set(values)) == 1 and "e+40" in values[0] else values
    except Exception as error:
        found[reader] = "refused" if "precision must be between 1 and 38" in str(error) else str(error)
    print(f"{reader}: {found[reader]}")
expected = dict.fromkeys(["pyarrow", "DataFusion", "chdb"], "two amounts") | dict.fromkeys(["DuckDB", "fastparquet"], "one double")
assert found == expected | {"polars": "refused"}, "it has changed"
PYTHON
