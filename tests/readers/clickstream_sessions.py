"""Computes in plain Python what clickstream-analysis must write, and compares it with what it wrote, row for row.

    clickstream_sessions.py DUMP OUT_DIR [--gap-seconds N] [--max-seconds N] [--watermark US]

DUMP is a dump of the topic (see records.py). Sessions are found by looking at all events of a key at once, cut where a chain
of events is too long: docs/time.md says where. With --watermark (microseconds since 1970) only sessions that have ended by
then must be there. Prints one JSON object: {"records", "tombstones", "bad", "accepted", "rows", "cut": sessions that end at
a cut, "unnamed": those without a session_id, "readers": {"duckdb": {"missing", "extra", "examples"}, "pyarrow": …},
"dead_letters": {"missing", "extra", "examples"} of the table beside it}. Ends with 1 on any difference.
"""

import argparse
import datetime
import json
import sys

import dead_letters
from records import Bad, as_event_time, as_text, dump_lines, fields_of
from rows import plain, read_duckdb, read_pyarrow

REQUIRED = ("event_id", "user_id", "page_url", "event_type")
OPTIONAL = ("session_id", "element_id", "device_type")
NUMBERS = ("x_pos", "y_pos")
EPOCH = datetime.date(1970, 1, 1)
DAY = 86_400_000_000


def decode(value):
    found = fields_of(value, {*REQUIRED, *OPTIONAL, *NUMBERS, "timestamp"}, 1 << 20, 127)
    texts = {name: as_text(name, found.get(name)) for name in (*REQUIRED, *OPTIONAL)}
    for name in REQUIRED:
        if texts[name] is None:
            raise Bad(f"{name} is missing")
    if not 1 <= len(texts["user_id"]) <= 255:
        raise Bad("user_id is empty or too long")
    if found.get("timestamp") is None:
        raise Bad("timestamp is missing")
    return as_event_time("timestamp", found["timestamp"]), texts


def pieces_of(events, gap, maximum):
    """Runs of events without a gap that stay between two multiples of the maximum."""
    pieces = []
    for event in events:
        if pieces:
            before = pieces[-1][-1][0]
            if event[0] - before < gap and event[0] // maximum == before // maximum:
                pieces[-1].append(event)
                continue
        pieces.append([event])
    return pieces


def sessions_of(events, gap, maximum):
    """Sessions of one key with the end of each, and how many of them were cut off from the next; events are in order."""
    sessions, ends, cuts = [], [], 0
    for piece in pieces_of(events, gap, maximum):
        if sessions and piece[0][0] - sessions[-1][-1][-1][0] < gap:
            if piece[-1][0] - sessions[-1][-1][0][0] < maximum:
                sessions[-1].append(piece)
                ends[-1] = piece[-1][0] + gap
                continue
            cuts += 1
            ends[-1] = piece[0][0] // maximum * maximum
        sessions.append([piece])
        ends.append(piece[-1][0] + gap)
    whole = [[event for piece in session for event in piece] for session in sessions]
    return list(zip(whole, ends)), cuts


def row_of(user_id, session_id, events):
    """Events are (time, topic, partition, offset, texts), in that order."""
    texts = [event[4] for event in events]
    start, end = events[0][0], events[-1][0]
    pages = [text["page_url"] for text in texts]
    devices = [text["device_type"] for text in texts if text["device_type"] is not None]
    return {
        "session_id": session_id,
        "user_id": user_id,
        "total_clicks": len(events),
        "unique_pages": len(set(pages)),
        "unique_elements": len({text["element_id"] for text in texts} - {None}),
        "session_start": start,
        "session_end": end,
        "session_duration_sec": (end - start) / 1_000_000,
        "page_path": pages,
        "entry_page": pages[0],
        "exit_page": pages[-1],
        "device_type": devices[0] if devices else None,
        "date": str(EPOCH + datetime.timedelta(days=start // DAY)),
    }


def as_text_row(row):
    return json.dumps(row, sort_keys=True)


def written(rows):
    out = []
    for row in rows:
        row = plain(row)
        row["date"] = str(row["date"])
        # When it was emitted: it must be there, and is not compared.
        if row.pop("processing_time", None) is None:
            row["processing_time"] = "missing"
        out.append(as_text_row(row))
    return sorted(out)


def difference(one, other):
    """Rows of one that are not in the other, each as often as it is there too many."""
    counts = {}
    for row in other:
        counts[row] = counts.get(row, 0) + 1
    left = []
    for row in one:
        if counts.get(row, 0) > 0:
            counts[row] -= 1
        else:
            left.append(row)
    return left


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump")
    parser.add_argument("out_dir")
    parser.add_argument("--gap-seconds", type=int, default=1800)
    parser.add_argument("--max-seconds", type=int, default=86_400)
    parser.add_argument("--watermark", type=int)
    args = parser.parse_args()

    report = {"records": 0, "tombstones": 0, "bad": 0, "accepted": 0}
    by_key, bad = {}, []
    for topic, partition, offset, value in dump_lines(args.dump):
        report["records"] += 1
        if value is None:
            report["tombstones"] += 1
            continue
        try:
            time, texts = decode(value)
        except Bad:
            report["bad"] += 1
            bad.append((topic, partition, offset, value))
            continue
        report["accepted"] += 1
        key = (texts["user_id"], texts["session_id"])
        by_key.setdefault(key, []).append((time, topic, partition, offset, texts))

    expected, cuts = [], 0
    for (user_id, session_id), events in by_key.items():
        events.sort(key=lambda event: event[:4])
        sessions, cut = sessions_of(events, args.gap_seconds * 1_000_000, args.max_seconds * 1_000_000)
        cuts += cut
        closed = (session for session, end in sessions if args.watermark is None or end <= args.watermark)
        expected.extend(row_of(user_id, session_id, session) for session in closed)
    report["rows"] = len(expected)
    report["cut"] = cuts
    report["unnamed"] = sum(row["session_id"] is None for row in expected)

    wanted = sorted(as_text_row(row) for row in expected)
    report["readers"], differs = {}, False
    for name, read in (("duckdb", read_duckdb), ("pyarrow", read_pyarrow)):
        rows = written(read(args.out_dir))
        missing, extra = difference(wanted, rows), difference(rows, wanted)
        examples = {"missing": missing[:2], "extra": extra[:2]}
        report["readers"][name] = {"missing": len(missing), "extra": len(extra), "examples": examples}
        differs |= bool(missing or extra)
    report["dead_letters"] = dead_letters.difference(args.out_dir.rstrip("/") + "_dead_letters", bad)
    differs |= bool(report["dead_letters"]["examples"])
    print(json.dumps(report))
    sys.exit(1 if differs else 0)


if __name__ == "__main__":
    main()
