"""Computes in plain Python what a job of manifests/examples must write, and compares it with what it wrote, row for row.

    examples.py JOB DUMP OUTPUTS_DIR [ERRORS]

JOB is top-pages, ingest or route-errors, DUMP a dump of its topic (see records.py), ERRORS one of the topic that route-errors
writes, with purchases and searches as errors: each is there at least once. Prints one JSON object: {"records", "tombstones", "bad",
"rows", "missing", "extra", "examples"} over both plain readers; ends with 1 on any difference.
"""

import collections
import datetime
import json
import os
import re
import sys
from urllib.parse import urlsplit

from records import Bad, Number, as_event_time, as_text, dump_lines, fields_of
from rows import plain, read_duckdb, read_pyarrow

EPOCH = datetime.date(1970, 1, 1)
SLIDE, SIZE, DAY = 60_000_000, 300_000_000, 86_400_000_000
PLACES = 10


def date(microseconds):
    return str(EPOCH + datetime.timedelta(days=microseconds // DAY))


def required(found, names):
    """Texts that must be there."""
    texts = {name: as_text(name, found.get(name)) for name in names}
    for name, text in texts.items():
        if text is None:
            raise Bad(f"{name} is missing")
    return texts


def time_of(found):
    if found.get("timestamp") is None:
        raise Bad("timestamp is missing")
    return as_event_time("timestamp", found["timestamp"])


def view(place, value):
    found = fields_of(value, {"user_id", "page_url", "timestamp"}, 1 << 20, 127)
    texts = required(found, ("user_id", "page_url"))
    return time_of(found), urlsplit(texts["page_url"]).path, texts["user_id"]


def top_pages(views):
    windows = collections.defaultdict(lambda: collections.defaultdict(list))
    for time, page, user in views:
        start = time // SLIDE * SLIDE
        while start + SIZE > time:
            windows[start][page].append(user)
            start -= SLIDE
    for start, pages in windows.items():
        ranked = sorted(pages.items(), key=lambda page: (-len(page[1]), page[0]))
        for place, (page, users) in enumerate(ranked[:PLACES], 1):
            yield {
                "window_start": start,
                "window_end": start + SIZE,
                "place": place,
                "page": page,
                "views": len(users),
                "visitors": len(set(users)),
                "date": date(start),
            }


def json_text(value, name):
    """The text of a field as it came."""
    text = value.decode()
    at = re.search(rf'"{name}":', text).end()
    return text[at : json.JSONDecoder(parse_int=Number, parse_float=Number).raw_decode(text, at)[1]]


def event(place, value):
    names = ("event_id", "user_id", "session_id", "event_type", "app_type")
    found = fields_of(value, {*names, "properties", "timestamp"}, 1 << 20, 127)
    required(found, ("user_id", "event_type"))
    texts = {name: as_text(name, found.get(name)) for name in names}
    time = time_of(found)
    properties = None if found.get("properties") is None else json_text(value, "properties")
    topic, partition, offset = place
    place = {"topic": topic, "partition": partition, "offset": offset}
    return {**texts, "properties": properties, "timestamp": time, **place, "date": date(time)}


ERRORS = ("purchase", "search")


def counts(events):
    """What route-errors counts: the events that are no errors, by minute and type."""
    minutes = collections.Counter()
    for found in events:
        if found["event_type"] not in ERRORS:
            minutes[found["timestamp"] // SLIDE * SLIDE, found["event_type"]] += 1
    for (start, event_type), number in minutes.items():
        yield {"window_start": start, "event_type": event_type, "events": number, "date": date(start)}


def sent_errors(events, dump):
    """How many errors are not in the topic, and how many of its records are none."""
    names = ("event_id", "user_id", "event_type", "app_type", "properties", "timestamp")
    wanted = {tuple(found[name] for name in names) for found in events if found["event_type"] in ERRORS}
    sent = set()
    for *_, value in dump_lines(dump):
        row = json.loads(value)
        row["timestamp"] = as_event_time("timestamp", row["timestamp"])
        sent.add(tuple(row.get(name) for name in names))
    return len(wanted - sent), len(sent - wanted)


JOBS = {
    "top-pages": ("top_pages", view, top_pages),
    "ingest": ("app_events_raw", event, iter),
    "route-errors": ("other_event_counts", event, counts),
}


def main():
    job, dump, outputs, *errors = sys.argv[1:]
    table, decode, compute = JOBS[job]
    report = {"records": 0, "tombstones": 0, "bad": 0, "missing": 0, "extra": 0, "examples": []}
    good = []
    for *place, value in dump_lines(dump):
        report["records"] += 1
        if value is None:
            report["tombstones"] += 1
            continue
        try:
            good.append(decode(place, value))
        except Bad:
            report["bad"] += 1
    wanted = collections.Counter(json.dumps(row, sort_keys=True) for row in compute(good))
    report["rows"] = wanted.total()
    for read in (read_duckdb, read_pyarrow):
        rows = [plain(row) for row in read(os.path.join(outputs, table))]
        found = collections.Counter(json.dumps({**row, "date": str(row["date"])}, sort_keys=True) for row in rows)
        for kind, difference in (("missing", wanted - found), ("extra", found - wanted)):
            report[kind] += difference.total()
            report["examples"] += [f"{kind}: {row}" for row in list(difference)[:2]]
    for topic in errors:
        missing, extra = sent_errors(good, topic)
        report["examples"] += [f"{missing} errors are missing and {extra} extra"] if missing or extra else []
    print(json.dumps(report))
    sys.exit(1 if report["examples"] else 0)


if __name__ == "__main__":
    main()
