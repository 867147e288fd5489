#!/usr/bin/env bash
# chdb 4.4.0: in files of two types the id 18446744073709551615 is -1, and the text 007 is the number 7.
#
# Of several Parquet files the type of a column is that of the first one that is looked at, which is not always the same one, and
# the values of the others are cast to it without a check: an unsigned id of 64 bits turns negative behind a signed column, and
# a code with leading zeros loses them behind a column of numbers. DuckDB reads the same files as unsigned and as text, or ends
# with an error, as the first name says.
# What we do: text and number, signed and unsigned 64 bits are two types: an error that names the column and both files.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check chdb==4.4.0 duckdb==2.0.0 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import json
import os

import chdb
import duckdb
import pyarrow as pa
import pyarrow.parquet

GREATEST = 2**64 - 1
TABLES = {
    "unsigned": [pa.array([GREATEST], pa.uint64()), pa.array([1], pa.int64())],
    "signed": [pa.array([1], pa.int64()), pa.array([GREATEST], pa.uint64())],
    "text": [pa.array(["007"]), pa.array([8], pa.int64())],
    "number": [pa.array([8], pa.int64()), pa.array(["007"])],
}


def of_duckdb(name):
    try:
        return [row[0] for row in duckdb.sql(f"FROM '{name}/*.parquet'").fetchall()]
    except duckdb.Error as error:
        return type(error).__name__


found = {}
for name, columns in TABLES.items():
    os.mkdir(name)
    for number, column in enumerate(columns):
        pyarrow.parquet.write_table(pa.table({"id": column}), f"{name}/{number}.parquet")
    lines = chdb.query(f"SELECT toString(id) AS id FROM file('{name}/*.parquet', Parquet)", "JSONEachRow").data().split()
    found[name] = sorted(json.loads(line)["id"] for line in lines)
    print(f"{name:8} written {[column[0].as_py() for column in columns]}, chdb {found[name]}, DuckDB {of_duckdb(name)}")
assert "-1" in found["unsigned"] + found["signed"], "it has changed"
assert "7" in found["text"] + found["number"], "it has changed"
PYTHON
