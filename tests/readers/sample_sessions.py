"""Writes tables of the kind that streaming jobs write, with seeded rows: input of batch jobs.

    sample_sessions.py OUTPUTS_DIR FIRST_DAY DAYS [SEED]

Writes events_aggregated_realtime, hourly_aggregates (of the events) and clickstream_sessions below OUTPUTS_DIR, for DAYS days from
FIRST_DAY on, with what tells that they are complete. The first day has no events, the last one no sessions.
"""

import datetime
import json
import os
import random
import sys

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

UTC = datetime.timezone.utc
TIME = pa.timestamp("us", tz="UTC")
EVENT_TYPES = ["page_view", "click", "purchase", "scroll", "search"]
APP_TYPES = ["mobile", "web", "api"]


def write(folder, table, by):
    """One file for each day, in directories of the date."""
    for day in sorted(set(table[by].to_pylist())):
        rows = table.filter(pa.compute.equal(table[by], day)).drop_columns([by])
        os.makedirs(f"{folder}/{by}={day}", exist_ok=True)
        pq.write_table(rows, f"{folder}/{by}={day}/part-0.parquet")


def complete(folder, until):
    """Tells until when a table is complete."""
    micros = int(until.timestamp()) * 1_000_000
    progress = {"log_id": "sample", "published": 1, "watermark": micros, "complete_until": micros}
    with open(f"{folder}/_progress.json", "w", encoding="utf-8") as file:
        json.dump(progress, file)


def main():
    outputs, first, days = sys.argv[1], datetime.date.fromisoformat(sys.argv[2]), int(sys.argv[3])
    random.seed(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    begin = datetime.datetime.combine(first, datetime.time(), UTC)
    end = begin + datetime.timedelta(days=days)
    events, sessions = [], []
    for number in range(days):
        day = begin + datetime.timedelta(days=number)
        for user in range(60):
            # Some users live on events, some on sessions, a few on both.
            if user % 3 and number > 0:
                for _ in range(random.randint(0, 3 * (1 + user % 20))):
                    start = day + datetime.timedelta(minutes=random.randrange(24 * 60))
                    kinds = 1 + user % len(EVENT_TYPES)
                    events.append({
                        "window_start": start, "window_end": start + datetime.timedelta(minutes=1), "user_id": f"user-{user}",
                        "event_type": EVENT_TYPES[random.randrange(kinds)], "app_type": APP_TYPES[random.randrange(1 + user % 2)],
                        "event_count": random.randint(1, 400), "session_ids": [f"s-{user}-{number}"],
                        "processing_time": end, "date": str(start.date()),
                    })
            if user % 4 and number < days - 1:
                for visit in range(random.randint(0, user % 10)):
                    start = day + datetime.timedelta(seconds=random.randrange(86_400))
                    pages = random.randint(1, 9)
                    seconds = random.choice([0.0, 0.5, 12.25, random.uniform(0, 5_000)])
                    sessions.append({
                        "session_id": f"s-{user}-{number}-{visit}", "user_id": f"user-{user}",
                        "total_clicks": random.randint(1, 60), "unique_pages": pages, "unique_elements": random.randint(0, 20),
                        "session_start": start, "session_end": start + datetime.timedelta(seconds=seconds),
                        "session_duration_sec": seconds, "page_path": ["/a"] * pages, "entry_page": "/a", "exit_page": "/a",
                        "device_type": "mobile", "processing_time": end, "date": str(start.date()),
                    })
    event_schema = pa.schema([
        ("window_start", TIME), ("window_end", TIME), ("user_id", pa.string()), ("event_type", pa.string()), ("app_type", pa.string()),
        ("event_count", pa.int64()), ("session_ids", pa.list_(pa.string())), ("processing_time", TIME), ("date", pa.string()),
    ])
    session_schema = pa.schema([
        ("session_id", pa.string()), ("user_id", pa.string()), ("total_clicks", pa.int64()), ("unique_pages", pa.int64()),
        ("unique_elements", pa.int64()), ("session_start", TIME), ("session_end", TIME), ("session_duration_sec", pa.float64()),
        ("page_path", pa.list_(pa.string())), ("entry_page", pa.string()), ("exit_page", pa.string()), ("device_type", pa.string()),
        ("processing_time", TIME), ("date", pa.string()),
    ])
    write(f"{outputs}/events_aggregated_realtime", pa.Table.from_pylist(events, event_schema), "date")
    write(f"{outputs}/clickstream_sessions", pa.Table.from_pylist(sessions, session_schema), "date")
    counts = {}
    for event in events:
        key = (event["window_start"].replace(minute=0), event["event_type"], event["app_type"])
        counts[key] = counts.get(key, 0) + event["event_count"]
    hours = [
        {"hour": hour, "event_type": event_type, "app_type": app_type, "event_count": count, "date": str(hour.date())}
        for (hour, event_type, app_type), count in sorted(counts.items())
    ]
    hour_schema = pa.schema([
        ("hour", TIME), ("event_type", pa.string()), ("app_type", pa.string()), ("event_count", pa.int64()), ("date", pa.string()),
    ])
    hours = pa.Table.from_pylist(hours, hour_schema)
    write(f"{outputs}/hourly_aggregates", hours, "date")
    for table in ("events_aggregated_realtime", "clickstream_sessions", "hourly_aggregates"):
        complete(f"{outputs}/{table}", end)
    print(json.dumps({"events": len(events), "sessions": len(sessions), "hours": hours.num_rows}))


if __name__ == "__main__":
    main()
