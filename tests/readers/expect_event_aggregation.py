"""Computes what event-aggregation must write, in DuckDB SQL from the raw records.

    expect_event_aggregation.py DUMP OUT.parquet [options]

DUMP is a dump of the topic (see records.py). OUT gets one row per window and group: window_start, window_end
(timestamps, UTC), user_id, event_type, app_type, event_count, session_ids (sorted), date. Prints the counts as JSON:
{"records", "tombstones", "bad", "future", "duplicates", "accepted", "rows"}; --bad FILE also lists the bad records with a reason
(one JSON object per line: topic, partition, offset, reason), since which ones they are is part of the promise.
"""

import argparse
import json

import duckdb
import pyarrow as pa

from records import Bad, as_event_time, as_text, dump_lines, fields_of

REQUIRED_TEXT = ("user_id", "event_type", "session_id", "app_type")
USER_ID_MAX = 255  # characters; the least is 1
NAMES = ("event_us", "user_id", "event_type", "session_id", "app_type")


def decode(value, also_text, also_json, max_bytes, max_depth):
    """One event as (event time in microseconds, user_id, event_type, session_id, app_type); raises Bad."""
    found = fields_of(value, {*REQUIRED_TEXT, "timestamp", *also_text, *also_json}, max_bytes, max_depth)
    texts = {name: as_text(name, found.get(name)) for name in (*REQUIRED_TEXT, *also_text)}
    for name in REQUIRED_TEXT:
        if texts[name] is None:
            raise Bad(f"{name} is missing")
    if not 1 <= len(texts["user_id"]) <= USER_ID_MAX:
        raise Bad("user_id is empty or too long")
    if found.get("timestamp") is None:
        raise Bad("timestamp is missing")
    event_us = as_event_time("timestamp", found["timestamp"])
    return event_us, texts["user_id"], texts["event_type"], texts["session_id"], texts["app_type"]


class Firsts:
    """Which events are the first of their keys: no earlier record with the same keys that is one has a time within reach.

    Records of one key are in one partition, so that their order is known."""

    def __init__(self, names, within_us):
        self.places = [NAMES.index(name) for name in names]
        self.within_us = within_us
        self.kept = {}

    def is_first(self, event):
        kept = self.kept.setdefault(tuple(event[place] for place in self.places), [])
        if any(abs(time - event[0]) <= self.within_us for time in reversed(kept)):
            return False
        kept.append(event[0])
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump")
    parser.add_argument("out")
    parser.add_argument("--bad", help="file that lists the bad records")
    parser.add_argument("--window-seconds", type=int, default=60)
    parser.add_argument("--also-text", default="", help="further declared text columns, separated by commas")
    parser.add_argument("--also-json", default="", help="further declared columns of any JSON type")
    parser.add_argument("--max-bytes", type=int, default=1 << 20)
    parser.add_argument("--max-depth", type=int, default=127)
    parser.add_argument("--not-after-us", type=int, help="later events are 'future': counted, not in any window")
    parser.add_argument("--deduplicate", help="columns in which events agree of which only the first counts")
    parser.add_argument("--within-ms", type=int, default=0, help="how far apart such events may be")
    args = parser.parse_args()
    firsts = Firsts(args.deduplicate.split(","), args.within_ms * 1_000) if args.deduplicate else None
    also_text = tuple(filter(None, args.also_text.split(",")))
    also_json = tuple(filter(None, args.also_json.split(",")))

    counts = {"records": 0, "tombstones": 0, "bad": 0, "future": 0, "duplicates": 0, "accepted": 0}
    bad, events = [], []
    for topic, partition, offset, value in dump_lines(args.dump):
        counts["records"] += 1
        if value is None:
            counts["tombstones"] += 1
            continue
        try:
            event = decode(value, also_text, also_json, args.max_bytes, args.max_depth)
        except Bad as reason:
            counts["bad"] += 1
            bad.append({"topic": topic, "partition": partition, "offset": offset, "reason": str(reason)})
            continue
        if args.not_after_us is not None and event[0] > args.not_after_us:
            counts["future"] += 1
            continue
        if firsts and not firsts.is_first(event):
            counts["duplicates"] += 1
            continue
        counts["accepted"] += 1
        events.append(event)

    types = (pa.int64(), pa.string(), pa.string(), pa.string(), pa.string())
    columns = list(zip(*events)) or [()] * len(NAMES)
    table = pa.table([pa.array(column, kind) for column, kind in zip(columns, types)], names=NAMES)

    database = duckdb.connect()
    database.register("events", table)
    database.execute(
        """
        CREATE TABLE expected AS
        SELECT time_bucket(to_seconds(?), make_timestamp(event_us)) AS window_start,
               window_start + to_seconds(?) AS window_end,
               user_id, event_type, app_type,
               count(*) AS event_count,
               list_sort(list(DISTINCT session_id)) AS session_ids,
               CAST(window_start AS DATE) AS date
        FROM events
        GROUP BY ALL
        """,
        [args.window_seconds, args.window_seconds],
    )
    out = args.out.replace("'", "''")
    database.execute(f"COPY (FROM expected ORDER BY ALL) TO '{out}' (FORMAT parquet)")
    counts["rows"] = database.sql("SELECT count(*) FROM expected").fetchall()[0][0]
    if args.bad:
        with open(args.bad, "w", encoding="utf-8") as file:
            for record in bad:
                file.write(json.dumps(record) + "\n")
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
