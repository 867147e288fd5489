"""Computes in plain Python what data-enrichment must write, and compares it with what it wrote, row for row.

    enriched_events.py users PATH NUMBER
    enriched_events.py compare OUT_DIR USERS --app-events DUMP --clickstream DUMP --changes DUMP --external-data DUMP

`users` writes a table of users as Parquet and prints {"users"}. `compare` reads dumps of the topics (see records.py). What a
row says of time (future, stale) is measured against the row's own `processing_time`, which is the clock that the query
read. Prints one JSON object: {"records", "tombstones", "control", "bad", "accepted", "flags": rows by flag, "high_value",
"readers": {"duckdb": {"missing", "extra", "examples"}, "pyarrow": …}}. Ends with 1 on any difference.
"""

import argparse
import datetime
import json
import sys

import pyarrow
import pyarrow.parquet

from changes import Control, Tombstone, change
from records import Bad, as_event_time, as_text, dump_lines, fields_of
from rows import plain, read_duckdb, read_pyarrow

WEIGHTS = {"purchase": 10.0, "search": 3.0, "click": 2.0, "page_view": 1.0, "scroll": 0.5, "hover": 0.5, "focus": 0.5}
EPOCH = datetime.date(1970, 1, 1)
MINUTE = 60_000_000
DAY = 86_400_000_000
MASTER = ("name", "country", "verified", "device_type", "signup_date")


def users_table(number):
    """Some users, with nulls among what is known of them."""
    ids = [f"user_{n:06}" for n in range(number)]
    return pyarrow.table(
        {
            "user_id": ids,
            "name": [f"User {n}" for n in range(number)],
            "country": [[None, "DE", "FR", "PL"][n % 4] for n in range(number)],
            "verified": [[True, False, None][n % 3] for n in range(number)],
            "device_type": [["desktop", None, "mobile", "tablet", "mobile"][n % 5] for n in range(number)],
            "signup_date": [None if n % 7 == 0 else EPOCH + datetime.timedelta(days=18_000 + n) for n in range(number)],
        }
    )


def texts_of(value, required, optional):
    found = fields_of(value, {*required, *optional, "timestamp"}, 1 << 20, 127)
    texts = {name: as_text(name, found.get(name)) for name in (*required, *optional)}
    for name in required:
        if texts[name] is None:
            raise Bad(f"{name} is missing")
    if "user_id" in required and not 1 <= len(texts["user_id"]) <= 255:
        raise Bad("user_id is empty or too long")
    if found.get("timestamp") is None:
        raise Bad("timestamp is missing")
    return {"event_time": as_event_time("timestamp", found["timestamp"]), **texts}


def app_event(value):
    return texts_of(value, ("user_id", "session_id", "event_type", "app_type"), ("event_id", "device_type", "country"))


def click(value):
    return texts_of(value, ("event_id", "user_id", "page_url", "event_type"), ("session_id", "device_type", "country"))


def row_change(value):
    found = change(value)
    return {"event_type": found["operation_type"], "event_time": found["event_time"]}


def external(value):
    found = texts_of(value, ("data_source",), ("location",))
    return {**found, "event_type": found["data_source"]}


def row_of(topic, payload, found, users):
    """A row, but for what depends on the clock."""
    user_id = found.get("user_id")
    user = users.get(user_id) or {}
    score = WEIGHTS.get(found["event_type"], 0.0)
    flags = []
    if user_id is not None and not user:
        flags.append("unknown_user")
    if user.get("verified") is False:
        flags.append("unverified_account")
    for name in ("device_type", "country"):
        ours, theirs = found.get(name), user.get(name)
        if ours is not None and theirs is not None and ours != theirs:
            flags.append(f"{name.removesuffix('_type')}_mismatch")
    texts = ("event_id", "user_id", "session_id", "event_type", "event_time", "device_type", "country", "location")
    return {
        "topic": topic,
        "payload": payload,
        **{name: found.get(name) for name in texts},
        **{f"user_{name}": user.get(name) for name in MASTER},
        "engagement_score": score,
        "is_high_value": found["event_type"] == "purchase" or score >= 5,
        "risk_flags": flags,
        "date": str(EPOCH + datetime.timedelta(days=found["event_time"] // DAY)),
    }


def at_clock(row, now):
    flags = list(row["risk_flags"])
    if row["event_time"] > now + 5 * MINUTE:
        flags.append("future_timestamp")
    if row["event_time"] < now - DAY:
        flags.append("stale_event")
    return {**row, "risk_flags": flags, "risk_score": len(flags)}


def compare(rows, wanted):
    """Rows by what they came of; each is compared at the clock that it says."""
    left = {key: list(expected) for key, expected in wanted.items()}
    extra, flags, high_value = [], {}, 0
    for row in rows:
        row = plain(row)
        row["date"] = str(row["date"])
        now = row.pop("processing_time", None)
        expected = left.get((row["topic"], row["payload"]))
        if now is None or not expected or at_clock(expected[0], now) != row:
            extra.append({"found": row, "expected": expected[:1] if expected else None})
            continue
        expected.pop()
        high_value += row["is_high_value"]
        for flag in row["risk_flags"]:
            flags[flag] = flags.get(flag, 0) + 1
    missing = [row for expected in left.values() for row in expected]
    found = {"missing": len(missing), "extra": len(extra), "examples": {"missing": missing[:2], "extra": extra[:2]}}
    return found, flags, high_value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("users")
    make.add_argument("path")
    make.add_argument("number", type=int)
    judge = commands.add_parser("compare")
    judge.add_argument("out_dir")
    judge.add_argument("users")
    for name in ("--app-events", "--clickstream", "--changes", "--external-data"):
        judge.add_argument(name, required=True)
    args = parser.parse_args()
    if args.command == "users":
        pyarrow.parquet.write_table(users_table(args.number), args.path)
        print(json.dumps({"users": args.number}))
        return

    table = pyarrow.parquet.read_table(args.users).to_pylist()
    users = {row["user_id"]: {name: plain(row[name]) for name in MASTER} for row in table}
    report = {"records": 0, "tombstones": 0, "control": 0, "bad": 0, "accepted": 0}
    wanted = {}
    dumps = ((args.app_events, app_event), (args.clickstream, click), (args.changes, row_change))
    for path, read in (*dumps, (args.external_data, external)):
        for topic, _, _, value in dump_lines(path):
            report["records"] += 1
            try:
                if value is None:
                    raise Tombstone
                row = row_of(topic, value.decode(errors="replace"), read(value), users)
            except Tombstone:
                report["tombstones"] += 1
                continue
            except Control:
                report["control"] += 1
                continue
            except Bad:
                report["bad"] += 1
                continue
            report["accepted"] += 1
            wanted.setdefault((topic, row["payload"]), []).append(row)

    report["readers"], differs = {}, False
    for name, read in (("duckdb", read_duckdb), ("pyarrow", read_pyarrow)):
        found, report["flags"], report["high_value"] = compare(read(args.out_dir), wanted)
        report["readers"][name] = found
        differs |= bool(found["missing"] or found["extra"])
    print(json.dumps(report))
    sys.exit(1 if differs else 0)


if __name__ == "__main__":
    main()
