#!/usr/bin/env bash
# DataFusion 55.0.0 (Python): two kinds of NaN.
#
# On x86-64 the processor's own NaN, what 0/0 gives, has its sign bit set; the one that text is read as has not. They print
# alike, but GROUP BY makes two groups of them, and ORDER BY puts one below every number and the other above.
# What to do: write NULLIF(divisor, 0), so that there is no NaN.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datafusion==55.0.0
venv/bin/python - <<'PYTHON'
import datafusion, math, platform

rows = datafusion.SessionContext().sql(
    "SELECT x, count(*) AS n FROM (VALUES (0e0 / 0e0), ('NaN'::double), (1e0), (1e0)) AS t(x) GROUP BY x ORDER BY x"
).to_pydict()
print(platform.machine(), rows)
assert rows["n"] == [1, 2, 1], "it has changed"
assert math.isnan(rows["x"][0]) and math.isnan(rows["x"][2]), "it has changed"
PYTHON
