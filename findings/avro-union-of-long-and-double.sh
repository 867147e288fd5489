#!/usr/bin/env bash
# avro 1.12.2 (Apache's Python library), fastavro 1.13.1: a field whose type is a union of long and double.
#
# Neither library writes a number as the type that it has: avro takes the last type of the union that could hold it, fastavro the first. A
# double can hold any long, they think, so with ["null", "long", "double"] avro writes 9007199254740993 as 9007199254740992.0, and with
# ["null", "double", "long"] fastavro does; the other one is right each time. No error, and a topic with producers of both has ids of two
# types. In ["boolean", "long"] avro makes 1 of True.
# What we do: a value is decoded as the branch that its bytes name, and a double is no long.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check avro==1.12.2 fastavro==1.13.1
venv/bin/python - <<'PYTHON'
import io, json

import avro.io, avro.schema, fastavro

def by_avro(schema, value):
    out = io.BytesIO()
    avro.io.DatumWriter(avro.schema.parse(json.dumps(schema))).write({"id": value}, avro.io.BinaryEncoder(out))
    return out.getvalue()

def by_fastavro(schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), {"id": value})
    return out.getvalue()

def read(schema, data):
    parsed = avro.schema.parse(json.dumps(schema))
    one = avro.io.DatumReader(parsed, parsed).read(avro.io.BinaryDecoder(io.BytesIO(data)))["id"]
    other = fastavro.schemaless_reader(io.BytesIO(data), fastavro.parse_schema(schema), None)["id"]
    assert repr(one) == repr(other), "it has changed: the readers differ"
    return repr(one)

seen = []
for union, value in [
    (["null", "long", "double"], 9007199254740993),
    (["null", "double", "long"], 9007199254740993),
    (["boolean", "long"], True),
]:
    schema = {"type": "record", "name": "Event", "fields": [{"name": "id", "type": union}]}
    seen.append((read(schema, by_avro(schema, value)), read(schema, by_fastavro(schema, value))))
    print(f"{union}, {value!r}: written by avro, read as {seen[-1][0]}; written by fastavro, read as {seen[-1][1]}")
assert seen == [
    ("9007199254740992.0", "9007199254740993"),
    ("9007199254740993", "9007199254740992.0"),
    ("1", "True"),
], "it has changed"
PYTHON
