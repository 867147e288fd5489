#!/usr/bin/env bash
# DuckDB 2.0.1, pyarrow 26.0.1, pandas 3.1.1, polars 2.1.0, DataFusion 55.0.0 (Python): a key that an object has twice, in newline-delimited JSON.
#
# JSON leaves open what it means. polars takes the first value, DataFusion and pandas the last, each without a word; DuckDB and pyarrow
# refuse the file, so that one such record keeps away all others.
# What to do: decide before the table; data-platform puts such a record aside as bad ("duplicate_field") and counts it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 pyarrow==26.0.1 pandas==3.1.1 polars==2.1.0 datafusion==55.0.0
venv/bin/python - <<'PYTHON'
import datafusion, duckdb, pandas, polars, pyarrow.json

with open("events.ndjson", "w") as lines:
    lines.write('{"id":1,"state":"new","state":"paid"}\n{"id":2,"state":"new"}\n')

def by_datafusion():
    batches = datafusion.SessionContext().read_json("events.ndjson", file_extension=".ndjson").collect()
    return [value for batch in batches for value in batch.to_pydict()["state"]]

readers = {
    "DuckDB": lambda: [state for (state,) in duckdb.sql("SELECT state FROM read_ndjson('events.ndjson')").fetchall()],
    "pyarrow": lambda: pyarrow.json.read_json("events.ndjson")["state"].to_pylist(),
    "pandas": lambda: pandas.read_json("events.ndjson", lines=True)["state"].tolist(),
    "polars": lambda: polars.read_ndjson("events.ndjson")["state"].to_list(),
    "DataFusion": by_datafusion,
}
found = {}
for reader, read in readers.items():
    try:
        found[reader] = read()[0]
    except Exception as error:
        found[reader] = "refused" if "duplicate" in str(error) or "twice" in str(error) else str(error)
    print(f"{reader}: {found[reader]}")
expected = {"DuckDB": "refused", "pyarrow": "refused", "pandas": "paid", "polars": "new", "DataFusion": "paid"}
assert found == expected, "it has changed"
PYTHON
