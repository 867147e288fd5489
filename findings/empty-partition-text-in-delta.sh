#!/usr/bin/env bash
# deltalake 1.6.6, polars 2.1.0, pyarrow 26.0.1 (Python): the empty text in a partition column of a Delta table.
#
# A Delta log writes partition values as text, and an empty text there means null: an empty text cannot be kept. deltalake
# writes the row without a word and reads it back as null; polars reads the same table and gives the empty text. A count of
# nulls, a join or IS NULL then differs by reader.
# What to do: write null ourselves before the row reaches the table, so that every reader says the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check deltalake==1.6.6 polars==2.1.0 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import deltalake, polars, pyarrow

deltalake.write_deltalake("table", pyarrow.table({"p": ["", None, "x"], "a": [1, 2, 3]}), partition_by=["p"])
by_deltalake = {row["a"]: row["p"] for row in deltalake.DeltaTable("table").to_pyarrow_table().to_pylist()}
by_polars = {row["a"]: row["p"] for row in polars.read_delta("table").to_dicts()}
print("deltalake:", dict(sorted(by_deltalake.items())))
print("polars:   ", dict(sorted(by_polars.items())))
assert by_deltalake == {1: None, 2: None, 3: "x"}, "it has changed"
assert by_polars == {1: "", 2: None, 3: "x"}, "it has changed"
PYTHON
