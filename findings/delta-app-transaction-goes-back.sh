#!/usr/bin/env bash
# deltalake 1.6.6, pyarrow 26.0.1 (Python): application transactions (`txn`) are written, not checked.
#
# The Delta protocol keeps a version per application so that a writer can tell what it has already written. deltalake records
# what it is given: after 61 it takes 7, says 7 from then on, and takes 61 a second time. Whoever believes that the version
# makes a retry harmless has every retried row twice.
# What to do: read the table's version of the application before every commit, and after every unclear reply.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check deltalake==1.6.6 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import os, deltalake, pyarrow

def write(version):
    transaction = deltalake.Transaction("job", version)
    properties = deltalake.CommitProperties(app_transactions=[transaction])
    rows = pyarrow.table({"batch": [version]})
    deltalake.write_deltalake("table", rows, mode="append", commit_properties=properties)
    table = deltalake.DeltaTable("table")
    known, count = table.transaction_version("job"), table.to_pyarrow_table().num_rows
    print(f"wrote {version}: the table says version {known}, {count} rows")
    return known, count

assert [write(61), write(7), write(61)] == [(61, 1), (7, 2), (61, 3)], "it has changed"
# Without the end of the interpreter, at which threads of the libraries are not always ready.
os.sys.stdout.flush()
os._exit(0)
PYTHON
