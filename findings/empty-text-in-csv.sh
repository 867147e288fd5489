#!/usr/bin/env bash
# DuckDB 2.0.1, pyarrow 26.0.1, pandas 3.1.1, polars 2.1.0, DataFusion 55.0.0 (Python): an empty text and null in CSV.
#
# DuckDB, pyarrow and polars write an empty text as "" and null as nothing, so the file knows the difference. Read without options, only
# polars keeps it, also in files that the others wrote. DuckDB reads null for both, also from its own file; pyarrow an empty text for both;
# DataFusion null for both; pandas null for both, and for the text NA too. So a table that goes through CSV changes its count(b), and with
# pandas it loses Namibia.
# What to do: polars; or DuckDB with allow_quoted_nulls = false; or pyarrow with strings_can_be_null, quoted_strings_can_be_null=False
# and null_values=[""].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  duckdb==2.0.1 pyarrow==26.0.1 pandas==3.1.1 polars==2.1.0 datafusion==55.0.0
venv/bin/python - <<'PYTHON'
import datafusion, duckdb, pandas, polars, pyarrow, pyarrow.csv

rows = pyarrow.table({"a": [1, 2, 3, 4], "b": ["", None, "NA", "x"]})
duckdb.sql("COPY rows TO 'DuckDB.csv'")
pyarrow.csv.write_csv(rows, "pyarrow.csv")
polars.from_arrow(rows).write_csv("polars.csv")

def by_datafusion(file):
    context = datafusion.SessionContext()
    context.register_csv("t", file)
    return context.sql("SELECT b FROM t ORDER BY a").to_pydict()["b"]

readers = {
    "DuckDB": lambda file: [b for (b,) in duckdb.sql(f"SELECT b FROM read_csv('{file}') ORDER BY a").fetchall()],
    "pyarrow": lambda file: pyarrow.csv.read_csv(file)["b"].to_pylist(),
    "pandas": lambda file: [None if pandas.isna(b) else b for b in pandas.read_csv(file)["b"]],
    "polars": lambda file: polars.read_csv(file)["b"].to_list(),
    "DataFusion": by_datafusion,
}
seen = {}
for writer in ["DuckDB", "pyarrow", "polars"]:
    text = open(f"{writer}.csv").read().replace("\n", "|")
    print(f"{writer} writes {text}")
    for name, read in readers.items():
        values = read(f"{writer}.csv")
        print(f"  {name} reads {values}")
        assert seen.setdefault(name, values) == values, "it has changed"
assert seen == {
    "DuckDB": [None, None, "NA", "x"],
    "pyarrow": ["", "", "NA", "x"],
    "pandas": [None, None, None, "x"],
    "polars": ["", None, "NA", "x"],
    "DataFusion": [None, None, "NA", "x"],
}, "it has changed"
kept = duckdb.sql("SELECT b FROM read_csv('DuckDB.csv', allow_quoted_nulls = false) ORDER BY a").fetchall()
options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""])
assert [b for (b,) in kept] == ["", None, "NA", "x"], "it has changed"
assert pyarrow.csv.read_csv("pyarrow.csv", convert_options=options)["b"].to_pylist() == ["", None, "NA", "x"], "it has changed"
PYTHON
