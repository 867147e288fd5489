#!/usr/bin/env bash
# DataFusion 55.0.0 (Python): CAST of a whole number to a timestamp depends on the number's width.
#
# CAST(BIGINT AS TIMESTAMP) takes seconds since 1970, CAST(INT AS TIMESTAMP) nanoseconds: a column that becomes narrower or
# wider changes every instant by a factor of a thousand million, without an error.
# What to do: to_timestamp_seconds(x), to_timestamp_millis(x) and so on, which say the unit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datafusion==55.0.0
venv/bin/python - <<'PYTHON'
import datafusion

row = datafusion.SessionContext().sql(
    "SELECT CAST(CAST(CAST(1 AS BIGINT) AS TIMESTAMP) AS VARCHAR) AS a_bigint,"
    " CAST(CAST(CAST(1 AS INT) AS TIMESTAMP) AS VARCHAR) AS an_int"
).to_pydict()
print(row)
assert row == {"a_bigint": ["1970-01-01T00:00:01"], "an_int": ["1970-01-01T00:00:00.000000001"]}, "it has changed"
PYTHON
