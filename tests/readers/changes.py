"""Reads change data by the platform's rules, without the platform's code: the flat form and Debezium's envelope.

Used as a second opinion: by expect_changes.py over a whole topic, and to write down what the decoder's fixtures mean
(`changes.py FILE.jsonl`: one JSON object per line with a text `value`; prints one line per record).
"""

import json
import re
import sys
from decimal import Decimal

from records import Bad, Number, fields_of

KINDS = {"c": "INSERT", "i": "INSERT", "r": "INSERT", "u": "UPDATE", "d": "DELETE", "t": "TRUNCATE"}
SPACE = re.compile(r"[ \t\n\r]*")
PARSER = json.JSONDecoder(parse_int=Number, parse_float=Number)


class Tombstone(Exception):
    """The key is gone."""


class Control(Exception):
    """About the stream of changes, not a change."""


def parts(text, at):
    """The fields of the object at that place: name to (value, its text as it came). Of a name that repeats the last counts."""
    found = {}
    at = SPACE.match(text, at + 1).end()
    while text[at] == '"':
        name, at = PARSER.raw_decode(text, at)
        at = SPACE.match(text, SPACE.match(text, at).end() + 1).end()
        item, end = PARSER.raw_decode(text, at)
        found[name] = (item, text[at:end], at)
        at = SPACE.match(text, end).end()
        if text[at] == ",":
            at = SPACE.match(text, at + 1).end()
    return found


def change(value, max_bytes=1 << 20, max_depth=127):
    """One change as a dict of columns; raises Tombstone, Control or Bad."""
    if value is None or value.strip(b" \t\n\r") == b"null":
        raise Tombstone
    names = {"op", "ts_ms", "source", "table", "db", "schema", "before", "after", "txId", "lsn", "payload", "status", "id"}
    fields_of(value, names, max_bytes, max_depth)
    text = value.decode()
    envelope = parts(text, SPACE.match(text).end())

    def item(name, of=None):
        found = (envelope if of is None else of).get(name)
        return None if found is None else found[0]

    if item("op") is None and "payload" in envelope:
        if item("payload") is None and "schema" in envelope:
            raise Tombstone
        if isinstance(item("payload"), dict):
            envelope = parts(text, envelope["payload"][2])
    if item("op") is None:
        if item("status") in ("BEGIN", "END") and item("id") is not None:
            raise Control
        if item("ts_ms") is not None and set(envelope) <= {"ts_ms", "ts_us", "ts_ns"}:
            raise Control
        raise Bad("no op")
    source = parts(text, envelope["source"][2]) if isinstance(item("source"), dict) else None

    def first(*names):
        """As text, from the source or beside it; an empty name is none."""
        for of in (source or {}, envelope):
            for name in names:
                found = item(name, of)
                if found is not None and found != "":
                    if isinstance(found, (dict, list)):
                        raise Bad(f"{name} is not text")
                    return str(found) if isinstance(found, str) else json.dumps(found)
        return None

    if source is None and item("table") in (None, ""):
        raise Bad("no table")
    time = item("ts_ms", source or {})
    time = item("ts_ms") if time is None else time
    if time is None:
        raise Bad("no ts_ms")
    if not isinstance(time, Number):
        raise Bad("ts_ms is no number")
    operation = item("op")
    if isinstance(operation, (dict, list)):
        raise Bad("op is not text")
    operation = operation if isinstance(operation, str) else json.dumps(operation)
    kind = KINDS.get(operation, "UNKNOWN")
    snapshot = item("snapshot", source or {})

    def row(name):
        found = envelope.get(name)
        return None if found is None or found[0] is None else found[1]

    table_names = ("table", "collection") if source else ("table",)
    return {
        "operation": operation,
        "operation_type": kind,
        "database": first("db"),
        "schema_name": first("schema") if not (source is None and isinstance(item("schema"), dict)) else None,
        "table_name": first(*table_names),
        "before": row("before"),
        "after": row("after"),
        "record_data": {"INSERT": row("after"), "UPDATE": row("after"), "DELETE": row("before")}.get(kind),
        # Milliseconds always, also below the numbers that elsewhere are seconds.
        "event_time": int(Decimal(time) * 1000),
        "transaction_id": first("txId"),
        "log_sequence_number": first("lsn"),
        "is_snapshot": operation == "r" or snapshot not in (None, False, "", "false"),
    }


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        for line in file:
            value = json.loads(line)["value"]
            try:
                told = change(None if value is None else value.encode())
            except (Tombstone, Control) as fate:
                told = {"fate": type(fate).__name__.lower()}
            except Bad:
                told = {"fate": "bad"}
            print(json.dumps(told, ensure_ascii=False))


if __name__ == "__main__":
    main()
