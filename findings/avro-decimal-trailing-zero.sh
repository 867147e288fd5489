#!/usr/bin/env bash
# avro 1.12.2, fastavro 1.13.1 (Python): a decimal with fewer digits than its schema says.
#
# A decimal of Avro is a whole number; the schema alone says how many of its digits stand after the point. Of a field with
# scale 2, avro writes Decimal("1.20") as 120 and Decimal("1.2") as 12, so that everybody reads 0.12: the digits are written as
# Python holds them, without being brought to the scale of the schema. There is no error on either side. fastavro writes 120.
# What to do: value.quantize(Decimal("0.01")) before it is written, or fastavro.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check avro==1.12.2 fastavro==1.13.1
venv/bin/python - <<'PYTHON'
import decimal, io, json, avro.io, avro.schema, fastavro

amount = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
schema = {"type": "record", "name": "order", "fields": [{"name": "amount", "type": amount}]}

def by_avro(record):
    buffer = io.BytesIO()
    avro.io.DatumWriter(avro.schema.parse(json.dumps(schema))).write(record, avro.io.BinaryEncoder(buffer))
    return buffer.getvalue()

def by_fastavro(record):
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), record)
    return buffer.getvalue()

seen = {}
for text in ["1.20", "1.2", "1"]:
    for writer in (by_avro, by_fastavro):
        written = writer({"amount": decimal.Decimal(text)})
        read = fastavro.schemaless_reader(io.BytesIO(written), fastavro.parse_schema(schema))["amount"]
        decoder = avro.io.BinaryDecoder(io.BytesIO(written))
        assert avro.io.DatumReader(avro.schema.parse(json.dumps(schema))).read(decoder)["amount"] == read
        seen[writer.__name__, text] = str(read)
        print(f"{text} written {writer.__name__}: both read {read}")
assert seen == {
    ("by_avro", "1.20"): "1.20", ("by_fastavro", "1.20"): "1.20",
    ("by_avro", "1.2"): "0.12", ("by_fastavro", "1.2"): "1.20",
    ("by_avro", "1"): "0.01", ("by_fastavro", "1"): "1.00",
}, "it has changed"
PYTHON
