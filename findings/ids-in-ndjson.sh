#!/usr/bin/env bash
# DuckDB 2.0.1, pyarrow 26.0.1, pandas 3.1.1, polars 2.1.0, DataFusion 55.0.0 (Python), chdb 4.4.0: ids in newline-delimited JSON, read without a schema.
#
# Unsigned ids of 64 bits (hashes, snowflakes): pyarrow and DataFusion make a column of doubles of them, without an error, and neighbours
# become equal: of two ids one is left. DuckDB, polars, pandas and chdb keep them. Ids in quotes: pandas makes numbers of texts, so "007" and
# "7" are one id; the others leave a text a text.
# What to do: give pyarrow and DataFusion a schema (uint64), and pandas dtype={"id": str}.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  duckdb==2.0.1 pyarrow==26.0.1 pandas==3.1.1 polars==2.1.0 datafusion==55.0.0 chdb==4.4.0
venv/bin/python - <<'PYTHON'
import chdb, datafusion, duckdb, pandas, polars, pyarrow.json

def by_datafusion(file):
    batches = datafusion.SessionContext().read_json(file, file_extension=".ndjson").collect()
    return [value for batch in batches for value in batch.to_pydict()["id"]]

readers = {
    "DuckDB": lambda file: [row[0] for row in duckdb.sql(f"SELECT id FROM read_json('{file}')").fetchall()],
    "pyarrow": lambda file: pyarrow.json.read_json(file)["id"].to_pylist(),
    "pandas": lambda file: pandas.read_json(file, lines=True)["id"].tolist(),
    "polars": lambda file: polars.read_ndjson(file)["id"].to_list(),
    "DataFusion": by_datafusion,
    "chdb": lambda file: str(chdb.query(f"SELECT id FROM file('{file}', JSONEachRow)")).split(),
}
distinct = {}
for name, ids in [("unsigned", ["18446744073709551614", "18446744073709551615"]), ("quoted", ['"007"', '"7"'])]:
    file = f"{name}.ndjson"
    with open(file, "w") as lines:
        lines.writelines(f'{{"id":{value}}}\n' for value in ids)
    print(f"{name}: {' and '.join(ids)}")
    for reader, read in readers.items():
        values = read(file)
        distinct[name, reader] = len(set(values))
        print(f"  {reader} reads {values[0]!r} and {values[1]!r}: {len(set(values))} distinct")
one = {key for key, count in distinct.items() if count == 1}
assert one == {("unsigned", "pyarrow"), ("unsigned", "DataFusion"), ("quoted", "pandas")}, "it has changed"
PYTHON
