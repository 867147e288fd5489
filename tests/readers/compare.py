"""Compares an output of event-aggregation with what it must hold, row for row, once per plain reader.

    compare.py OUT_DIR EXPECTED.parquet [options]

EXPECTED is what expect_event_aggregation.py wrote. Prints one JSON object per reader name:

    {"duckdb": {"rows", "missing", "extra", "duplicates", "wrong", "events", "types", "examples"}, "pyarrow": ...}

missing, extra: keys (window_start, user_id, event_type, app_type) in only one of both. duplicates: rows beyond the
first of a key. wrong: rows whose other columns differ (processing_time must only be there). events: the sum of
event_count. types: columns whose type is not the promised one. examples: up to three rows per kind of difference. Ends
with 1 on any difference.

Options, for a job that has not closed all its windows:
  --watermark US  windows that end after this time (microseconds since 1970) must not be there; all others must
  --subset        missing rows are counted but are no difference
  --late          rows may count fewer events than expected, and miss sessions, since late events were left out;
                  missing rows are no difference either. The caller compares `events` with the counters (conservation).
"""

import argparse
import json
import os
import sys

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.types as types

import plain

EXAMPLES = 3


def is_text(kind):
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def is_time(kind):
    return types.is_timestamp(kind) and kind.unit == "us" and kind.tz in ("UTC", "+00:00")


def is_text_list(kind):
    return (types.is_list(kind) or types.is_large_list(kind)) and is_text(kind.value_type)


PROMISED = {
    "window_start": is_time,
    "window_end": is_time,
    "user_id": is_text,
    "event_type": is_text,
    "app_type": is_text,
    "event_count": types.is_int64,
    "session_ids": is_text_list,
    "processing_time": is_time,
}


def wrong_types(folder):
    """Columns of the files that are not of the promised type, and columns nobody promised, over all files."""
    problems = set()
    dataset = pyarrow.dataset.dataset(folder, format="parquet")
    for fragment in dataset.get_fragments():
        schema = fragment.physical_schema
        for name, is_right in PROMISED.items():
            if name not in schema.names:
                problems.add(f"{name}: not there")
            elif not is_right(schema.field(name).type):
                problems.add(f"{name}: {schema.field(name).type}")
        problems.update(f"{name}: nobody promised it" for name in schema.names if name not in PROMISED)
    return sorted(problems)


def compare(actual, expected_path, args):
    with duckdb.connect() as database:
        database.register("actual_rows", actual)
        database.execute("CREATE TABLE actual AS FROM actual_rows")
        limit = 2**63 - 1 if args.watermark is None else args.watermark
        database.execute(
            """
            CREATE TABLE expected AS
            SELECT epoch_us(window_start) AS window_start, epoch_us(window_end) AS window_end,
                   user_id, event_type, app_type, event_count, session_ids, CAST(date AS VARCHAR) AS date
            FROM read_parquet(?)
            WHERE epoch_us(window_end) <= ?
            """,
            [expected_path, limit],
        )
        key = ", ".join(plain.KEY)
        same = " AND ".join(f"a.{name} IS NOT DISTINCT FROM e.{name}" for name in plain.KEY)
        if args.late:
            value = """a.event_count NOT BETWEEN 1 AND e.event_count OR NOT list_has_all(e.session_ids, a.session_ids)
                   OR a.session_ids IS DISTINCT FROM list_sort(list_distinct(a.session_ids))"""
        else:
            value = "a.event_count IS DISTINCT FROM e.event_count OR a.session_ids IS DISTINCT FROM e.session_ids"
        queries = {
            "missing": f"SELECT {key} FROM expected e WHERE NOT EXISTS (FROM actual a WHERE {same})",
            "extra": f"SELECT DISTINCT {key} FROM actual a WHERE NOT EXISTS (FROM expected e WHERE {same})",
            "wrong": f"""
                SELECT a.*, e.window_end AS expected_window_end, e.event_count AS expected_event_count,
                       e.session_ids AS expected_session_ids, e.date AS expected_date
                FROM actual a JOIN expected e ON {same}
                WHERE a.window_end IS DISTINCT FROM e.window_end OR a.date IS DISTINCT FROM e.date
                   OR a.no_processing_time OR {value}
            """,
        }
        result = {"rows": actual.num_rows}
        examples = {}
        for name, query in queries.items():
            found = database.sql(query).to_arrow_table()
            result[name] = found.num_rows
            if found.num_rows > 0:
                examples[name] = found.slice(0, EXAMPLES).to_pylist()
        result["duplicates"] = plain.duplicates(actual)
        if result["duplicates"] > 0:
            query = f"SELECT {key}, count(*) AS rows FROM actual GROUP BY ALL HAVING rows > 1 LIMIT {EXAMPLES}"
            examples["duplicates"] = database.sql(query).to_arrow_table().to_pylist()
        query = "SELECT CAST(coalesce(sum(event_count), 0) AS BIGINT) FROM actual"
        result["events"] = database.sql(query).fetchall()[0][0]
        result["examples"] = examples
        return result


EMPTY = pa.schema(
    [
        ("window_start", pa.int64()),
        ("window_end", pa.int64()),
        ("user_id", pa.string()),
        ("event_type", pa.string()),
        ("app_type", pa.string()),
        ("event_count", pa.int64()),
        ("session_ids", pa.list_(pa.string())),
        ("date", pa.string()),
        ("no_processing_time", pa.bool_()),
    ]
).empty_table()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir")
    parser.add_argument("expected")
    parser.add_argument("--watermark", type=int)
    parser.add_argument("--subset", action="store_true")
    parser.add_argument("--late", action="store_true")
    args = parser.parse_args()

    report, differs = {}, False
    for reader in plain.READERS:
        table = plain.read(reader, args.out_dir) if os.path.isdir(args.out_dir) else None
        result = compare(EMPTY if table is None else table, args.expected, args)
        result["types"] = [] if table is None else wrong_types(args.out_dir)
        report[reader] = result
        counted = ["extra", "duplicates", "wrong"] + ([] if args.subset or args.late else ["missing"])
        differs |= any(result[name] > 0 for name in counted) or bool(result["types"])
    print(json.dumps(report, default=str))
    sys.exit(1 if differs else 0)


if __name__ == "__main__":
    main()
