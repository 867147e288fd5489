#!/usr/bin/env bash
# deltalake 1.6.6 (Python), pyarrow 26.0.1, polars 2.1.0, DuckDB 1.5.5 with its delta extension 1.5.5: DELETE from a Delta table of another writer.
#
# In a Delta log the path of a file is an URL; several spellings mean one path, and writers choose different ones: "p=é" or "p=%C3%A9",
# "p=a+b" or "p=a%2Bb". deltalake decodes the path when it reads it, and encodes it in its own way when it removes the file. If that is
# not how the writer spelled it, the removal names no file of the table: the old file stays and the new one comes beside it. Of two rows
# one is deleted, and three are there, for every reader.
# What we do: paths are written as deltalake writes them, and a removal repeats what the log says, letter by letter.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  deltalake==1.6.6 pyarrow==26.0.1 polars==2.1.0 duckdb==1.5.5 duckdb-extension-delta==1.5.5
venv/bin/python - <<'PYTHON'
import glob, json, os

import deltalake, duckdb, duckdb_extension_delta, polars, pyarrow, pyarrow.parquet

extension = glob.glob(os.path.dirname(duckdb_extension_delta.__file__) + "/extensions/*/delta.duckdb_extension")[0]
connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
connection.execute(f"LOAD '{extension}'")

def field(name, kind):
    return {"name": name, "type": kind, "nullable": True, "metadata": {}}

def make(table, value, path):
    """A table of one file with the ids 1 and 2 in the partition p=value, whose log spells the path so."""
    os.makedirs(f"{table}/_delta_log")
    os.makedirs(f"{table}/p={value}")
    file = f"{table}/p={value}/x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2]}), file)
    schema = {"type": "struct", "fields": [field("id", "long"), field("p", "string")]}
    actions = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": "6c7b3b52-1f0e-4c59-8c61-0c8f6b1f1c10",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps(schema),
                "partitionColumns": ["p"],
                "configuration": {},
                "createdTime": 0,
            }
        },
        {
            "add": {
                "path": path,
                "partitionValues": {"p": value},
                "size": os.path.getsize(file),
                "modificationTime": 0,
                "dataChange": True,
            }
        },
    ]
    with open(f"{table}/_delta_log/00000000000000000000.json", "w") as log:
        log.writelines(json.dumps(action) + "\n" for action in actions)

def counts(table):
    return (
        deltalake.DeltaTable(table).to_pyarrow_table().num_rows,
        polars.read_delta(table).height,
        connection.sql(f"SELECT count(*) FROM delta_scan('{table}')").fetchone()[0],
    )

seen = []
for value, path in [("é", "p=%C3%A9"), ("é", "p=é"), ("a+b", "p=a+b"), ("a+b", "p=a%2Bb")]:
    table = f"t{len(seen)}"
    make(table, value, f"{path}/x.parquet")
    before = counts(table)
    deltalake.DeltaTable(table).delete("id = 1")
    after = counts(table)
    print(f"{path}: {before} rows by deltalake, polars and DuckDB; after DELETE WHERE id = 1: {after}")
    seen.append((before, after))
right, wrong = ((2, 2, 2), (1, 1, 1)), ((2, 2, 2), (3, 3, 3))
assert seen == [right, wrong, right, wrong], "it has changed"
PYTHON
