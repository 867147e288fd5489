"""Writes records with fastavro: {"schema": …, "records": […]} on standard input, a line of hexadecimal digits for each.

A value that JSON has no word for is written {"decimal": "1.20"}, {"datetime": "2026-01-01T00:00:00Z"}, {"date": "…"},
{"uuid": "…"} or {"bytes": "hexadecimal"}.
"""

import datetime
import decimal
import io
import json
import sys
import uuid

import fastavro

WORDS = {
    "decimal": decimal.Decimal,
    "datetime": lambda text: datetime.datetime.fromisoformat(text.replace("Z", "+00:00")),
    "date": datetime.date.fromisoformat,
    "uuid": uuid.UUID,
    "bytes": bytes.fromhex,
}


def value(given):
    if isinstance(given, list):
        return [value(item) for item in given]
    if isinstance(given, dict):
        if len(given) == 1 and next(iter(given)) in WORDS:
            word, text = next(iter(given.items()))
            return WORDS[word](text)
        return {name: value(part) for name, part in given.items()}
    return given


request = json.load(sys.stdin)
schema = fastavro.parse_schema(request["schema"])
for record in request["records"]:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, value(record))
    print(buffer.getvalue().hex())
