#!/usr/bin/env bash
# DataFusion 55.0.0 (Python), DuckDB 2.0.1, polars 2.1.0, pyarrow 26.0.1: a table of versions whose last one is valid until 9999-12-31, a
# timestamp of microseconds, as Spark and Debezium write it.
#
# DataFusion's date_bin makes NULL of the open end, without a word, so that all current versions fall into no bin. It counts in nanoseconds
# of 64 bits, which end in 2262, and what does not fit is NULL. date_trunc, a comparison with DATE '3000-01-01' or with the text
# '9999-12-31', a difference, and coalesce(valid_to, now()) end with an error instead; max, a comparison with now() and CAST AS DATE are
# right. DuckDB (time_bucket, date_trunc) and polars (truncate) give what is meant.
# What to do: bin by dates (CAST(valid_to AS DATE)), or take the open end out first: CASE WHEN valid_to < now() THEN date_bin(...) END.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datafusion==55.0.0 duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import datetime
import datafusion, duckdb, polars, pyarrow, pyarrow.parquet as parquet

ends = [datetime.datetime(2025, 3, 1, 12), datetime.datetime(9999, 12, 31)]
parquet.write_table(pyarrow.table({"valid_to": pyarrow.array(ends, pyarrow.timestamp("us"))}), "versions.parquet")
context = datafusion.SessionContext()
context.register_parquet("versions", "versions.parquet")


def one(expression):
    try:
        rows = context.sql(f"SELECT {expression} AS answer FROM versions").to_pylist()
        return [str(row["answer"])[:10] for row in rows]
    except Exception as error:
        return "error" if "nverted value" in str(error) or "verflow" in str(error) or "out of range" in str(error) else str(error)


found = {
    "date_bin": one("date_bin(INTERVAL '1 day', valid_to)"),
    "date_trunc": one("date_trunc('year', valid_to)"),
    "later than a date": one("valid_to > DATE '3000-01-01'"),
    "equal to a text": one("valid_to = '9999-12-31'"),
    "difference": one("valid_to - TIMESTAMP '2025-01-01 00:00:00'"),
    "coalesce with now": one("coalesce(valid_to, now())"),
    "later than now": one("valid_to > now()"),
    "as a date": one("CAST(valid_to AS DATE)"),
    "DuckDB time_bucket": [str(row[0])[:10] for row in duckdb.sql("SELECT time_bucket(INTERVAL '1 day', valid_to) FROM 'versions.parquet'").fetchall()],
    "DuckDB date_trunc": [str(row[0])[:10] for row in duckdb.sql("SELECT date_trunc('year', valid_to) FROM 'versions.parquet'").fetchall()],
    "polars truncate": [str(end)[:10] for end in polars.read_parquet("versions.parquet")["valid_to"].dt.truncate("1d")],
}
for what, answer in found.items():
    print(f"{what}: {answer}")
days, years = ["2025-03-01", "9999-12-31"], ["2025-01-01", "9999-01-01"]
expected = dict.fromkeys(found, "error") | {
    "date_bin": ["2025-03-01", "None"],
    "later than now": ["False", "True"],
    "as a date": days,
    "DuckDB time_bucket": days,
    "DuckDB date_trunc": years,
    "polars truncate": days,
}
assert found == expected, {what: answer for what, answer in found.items() if answer != expected[what]}
PYTHON
