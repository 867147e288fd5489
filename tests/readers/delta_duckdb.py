"""Every row of a Delta table by DuckDB with its extension `delta`, which newer DuckDBs than that of the other readers lack.

    delta_duckdb.py TABLE

Prints {"rows": [...]}, in no order. Runs in an environment of its own (tests/env/python/requirements-duckdb.txt).
"""

import glob
import json
import os
import sys

import duckdb
import duckdb_extension_delta

from rows import plain


def main():
    (table,) = sys.argv[1:]
    here = os.path.dirname(duckdb_extension_delta.__file__)
    (extension,) = glob.glob(os.path.join(here, "extensions", "v" + duckdb.__version__, "delta.duckdb_extension"))
    with duckdb.connect() as database:
        database.load_extension(extension)
        database.execute("SET TimeZone = 'UTC'")
        found = database.execute("FROM delta_scan(?)", [table])
        names = [column[0] for column in found.description]
        rows = [{name: plain(value) for name, value in zip(names, row)} for row in found.fetchall()]
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
