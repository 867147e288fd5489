#!/usr/bin/env bash
# deltalake 1.6.6 (Python), DuckDB 1.5.5 with its delta extension 1.5.5, polars 2.1.0: a Delta table partitioned by a BINARY column.
#
# The protocol writes the bytes 61 00 FF of a partition as the text "\u0061\u0000\u00FF", which a reader is to turn back. deltalake puts the
# backslashes themselves into the log (twice escaped in its JSON), and whoever reads it gets that text of 18 bytes: deltalake what it
# wrote itself, DuckDB likewise; polars refuses the table. The same bytes in a column that is no partition come back as they were.
# What we do: a binary column is refused as a partition, by name.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  deltalake==1.6.6 pyarrow==26.0.1 polars==2.1.0 duckdb==1.5.5 duckdb-extension-delta==1.5.5
venv/bin/python - <<'PYTHON'
import glob, os

import deltalake, duckdb, duckdb_extension_delta, polars, pyarrow

extension = glob.glob(os.path.dirname(duckdb_extension_delta.__file__) + "/extensions/*/delta.duckdb_extension")[0]
connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
connection.execute(f"LOAD '{extension}'")

def by_polars(table):
    try:
        return polars.read_delta(table)["hash"].to_list()
    except polars.exceptions.ComputeError as error:
        return str(error).split(":")[0]

written = [b"a\x00\xff"]
rows = pyarrow.table({"id": [1], "hash": pyarrow.array(written, pyarrow.binary())})
seen = {}
for table, partitions in [("plain", None), ("partitioned", ["hash"])]:
    deltalake.write_deltalake(table, rows, partition_by=partitions)
    seen[table] = {
        "deltalake": deltalake.DeltaTable(table).to_pyarrow_table()["hash"].to_pylist(),
        "DuckDB": [row[0] for row in connection.sql(f"SELECT hash FROM delta_scan('{table}')").fetchall()],
        "polars": by_polars(table),
    }
    print(f"{table}: written {written}, read {seen[table]}")
text = [b"\\u0061\\u0000\\u00FF"]
assert seen["plain"] == {"deltalake": written, "DuckDB": written, "polars": written}, "it has changed"
assert seen["partitioned"] == {
    "deltalake": text,
    "DuckDB": text,
    "polars": "unsupported data type when reading CSV",
}, "it has changed"
PYTHON
