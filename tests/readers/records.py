"""Decides which Kafka records are bad, by the exact rules of the platform's topics, without the platform's code.

Slow and plain on purpose: this is the second opinion that the tests compare the runner with. What a record *means*
(windows, groups, counts) is left to SQL; here are only JSON, text and time.

A dump of a topic is a text file with one JSON object per line:

    {"topic": "t", "partition": 0, "offset": 7, "timestamp_ms": 1767225600000, "key": null, "value": "eyJhIjoxfQ=="}

with key and value in base64; a null value is a tombstone.
"""

import base64
import datetime
import json
import re
from decimal import ROUND_DOWN, Context, Decimal, InvalidOperation

MICROSECONDS = 1_000_000
EPOCH_ORDINAL = datetime.date(1970, 1, 1).toordinal()
# The years 1 to 9999, in microseconds since 1970.
FIRST_TIME = (datetime.date.min.toordinal() - EPOCH_ORDINAL) * 86_400 * MICROSECONDS
LAST_TIME = (datetime.date.max.toordinal() - EPOCH_ORDINAL + 1) * 86_400 * MICROSECONDS - 1
# Digits that are too many for it are cut, as those beyond the microsecond are.
CUT = Context(prec=60, rounding=ROUND_DOWN)

# Seconds may be left out, a fraction has 1 to 9 digits, the zone is Z, UTC, GMT, +hh, +hh:mm or +hhmm, behind one space
# or none, or missing (UTC); letters in either case.
TIME_TEXT = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(?: ?(?:Z|UTC|GMT|([+-])(\d{2})(?::?(\d{2}))?))?",
    re.ASCII | re.IGNORECASE,
)
JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class Bad(Exception):
    """A record that belongs to the dead letters; the text says why."""


class Number(str):
    """A JSON number as its own text, so that 1.50e3 stays 1.50e3 and no digit is lost."""


class Pairs(list):
    """A JSON object as its fields in order, so that a name that stands twice is seen."""


def refuse_constant(name):
    raise Bad(f"{name} is not JSON")


def nesting(value):
    """How deep objects and arrays nest, counted outside of strings; the outermost object counts as 1."""
    depth = deepest = 0
    for byte in JSON_STRING.sub(b"", value):
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest


def fields_of(value, declared, max_bytes, max_depth):
    """The declared top-level fields of one JSON object, given as bytes; raises Bad."""
    if len(value) > max_bytes:
        raise Bad("too large")
    # Counting first is quick, and deep nesting must not reach a parser that recurses.
    if value.count(b"{") + value.count(b"[") > max_depth and nesting(value) > max_depth:
        raise Bad("too deep")
    try:
        text = value.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        raise Bad("not UTF-8") from error
    try:
        parsed = json.loads(
            text, object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise Bad("not JSON") from error
    if not isinstance(parsed, Pairs):
        raise Bad("not an object")
    if "\\" in text:
        refuse_half_surrogates(parsed)
    found = {}
    for name, item in parsed:
        if name in declared:
            if name in found:
                raise Bad(f"{name} stands twice")
            found[name] = item
    return found


def refuse_half_surrogates(parsed):
    """Half of a surrogate pair is no text, wherever it stands; Python's parser lets it pass."""
    waiting = [parsed]
    while waiting:
        item = waiting.pop()
        if isinstance(item, (list, tuple)):
            waiting.extend(item)
        elif isinstance(item, str) and any("\ud800" <= character <= "\udfff" for character in item):
            raise Bad("half of a surrogate pair")


def as_text(name, item):
    """A field that is declared as text, or None for null; raises Bad."""
    if item is None:
        return None
    if item is True or item is False:
        return "true" if item else "false"
    if isinstance(item, (Pairs, list)):
        raise Bad(f"{name} is not text")
    return str(item)


def as_event_time(name, item):
    """A timestamp in microseconds since 1970 (UTC); raises Bad."""
    if isinstance(item, Number):
        event_time = number_time(name, item)
    elif isinstance(item, str):
        event_time = text_time(name, item)
    else:
        raise Bad(f"{name} is not a timestamp")
    if not FIRST_TIME <= event_time <= LAST_TIME:
        raise Bad(f"{name} is not in the years 1 to 9999")
    return event_time


def number_time(name, item):
    """Below 1e11 (absolute) seconds, else milliseconds."""
    try:
        number = Decimal(item)
    except InvalidOperation as error:
        # Only an exponent of more than 18 digits gets here.
        raise Bad(f"{name} is out of range") from error
    # An exponent of a billion must not become a number of a billion digits.
    if number == 0 or number.adjusted() < -12:
        return 0
    if number.adjusted() > 20:
        raise Bad(f"{name} is out of range")
    unit = MICROSECONDS if number.copy_abs() < 10**11 else 1000
    return int(CUT.multiply(number, Decimal(unit)))


def text_time(name, item):
    match = TIME_TEXT.fullmatch(item)
    if match is None:
        raise Bad(f"{name} is not a timestamp")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    fraction, sign, zone_hour, zone_minute = match.groups()[6:]
    try:
        days = datetime.date(year, month, day).toordinal() - EPOCH_ORDINAL
        datetime.time(hour, minute, second)
    except ValueError as error:
        raise Bad(f"{name} is no date or time of day") from error
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second
    if sign is not None:
        if int(zone_hour) > 23 or int(zone_minute or 0) > 59:
            raise Bad(f"{name} has no such zone")
        offset = int(zone_hour) * 3600 + int(zone_minute or 0) * 60
        seconds += offset if sign == "-" else -offset
    # Digits beyond the microsecond are cut, not rounded.
    return seconds * MICROSECONDS + int((fraction or "").ljust(6, "0")[:6])


def dump_lines(path):
    """The records of a dump: (topic, partition, offset, value as bytes or None)."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            value = None if record["value"] is None else base64.b64decode(record["value"])
            yield record["topic"], record["partition"], record["offset"], value
