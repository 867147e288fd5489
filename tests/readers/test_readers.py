"""Checks the independent readers themselves: a reader that cannot fail proves nothing."""

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import pyarrow as pa
import pyarrow.parquet

import compare
import dead_letters
import expect_event_aggregation
from expect_event_aggregation import decode
from records import Bad, as_event_time, Number

HERE = os.path.dirname(os.path.abspath(__file__))
MINUTE = 60_000_000
START = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


def run(script, *args):
    """Runs a reader in this process, since Python starts slowly; returns (exit code, report)."""
    printed = io.StringIO()
    code = 0
    with mock.patch.object(sys, "argv", [script.__name__, *map(str, args)]), contextlib.redirect_stdout(printed):
        try:
            script.main()
        except SystemExit as end:
            code = end.code
    return code, json.loads(printed.getvalue())


def event(**changes):
    fields = {
        "user_id": "u",
        "event_type": "click",
        "session_id": "s",
        "timestamp": "2026-01-01T00:00:00Z",
        "app_type": "web",
    }
    fields.update(changes)
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def decoded(value, **options):
    settings = {"also_text": (), "also_json": (), "max_bytes": 1 << 20, "max_depth": 127, **options}
    return decode(value, *settings.values())


class Records(unittest.TestCase):
    def test_a_value_that_is_not_one_json_object_is_bad(self):
        for value in (
            b"",
            b" ",
            b"[]",
            b"1",
            b"null",
            b'"x"',
            b"{",
            b"{}{}",
            b"{} x",
            b'{"a":}',
            b'{"a":1,}',
            b"{'a':1}",
            b'{"a":01}',
            b'{"a":NaN}',
            b'{"a":Infinity}',
            b'{"a":+1}',
            b'{"a":"\n"}',
            b'{"a":"\\x"}',
            b'{"a":"\xff"}',
            b"\xef\xbb\xbf" + event(),
            event().decode().encode("utf-16"),
            event()[:-1],
            b'{"user_id":"\xed\xa0\x80"}',
        ):
            with self.subTest(value), self.assertRaises(Bad):
                decoded(value)

    def test_required_fields_are_there_and_not_null(self):
        for name in ("user_id", "event_type", "session_id", "timestamp", "app_type"):
            for change in (..., None, {}, []):
                with self.subTest(name=name, change=change), self.assertRaises(Bad):
                    decoded(event(**{name: change}))

    def test_a_user_id_has_1_to_255_characters(self):
        for good in ("x", "x" * 255, "\U0001f600" * 255, 42, True):
            decoded(event(user_id=good))
        for bad in ("", "x" * 256, "é" * 256):
            with self.subTest(bad), self.assertRaises(Bad):
                decoded(event(user_id=bad))

    def test_numbers_and_booleans_count_as_their_json_text(self):
        value = b'{"user_id":1.50e3,"event_type":true,"session_id":-0,"timestamp":0,"app_type":""}'
        self.assertEqual(decoded(value), (0, "1.50e3", "true", "-0", ""))

    def test_a_declared_field_that_stands_twice_is_bad_and_another_one_is_not(self):
        fields = event().decode()[1:]
        decoded(('{"x":1,"x":2,"properties":{"user_id":1,"user_id":2},' + fields).encode())
        for name in ("user_id", "user\\u005fid", "timestamp"):
            with self.subTest(name), self.assertRaises(Bad):
                decoded(('{"%s":"u",%s' % (name, fields)).encode())
        with self.assertRaises(Bad):
            decoded(('{"event_id":"a","event_id":"a",' + fields).encode(), also_text=("event_id",))

    def test_escapes_are_resolved_and_half_a_surrogate_pair_is_no_text(self):
        self.assertEqual(decoded(event(user_id="\u00e9\U0001f600\u0000"))[1], "\u00e9\U0001f600\u0000")
        for changes in ({"user_id": "\ud800"}, {"p": ["\udc00"]}, {"p": {"\ud800x": 1}}):
            with self.subTest(changes), self.assertRaises(Bad):
                decoded(event(**changes))

    def test_too_large_and_too_deep_records_are_bad(self):
        def deep(levels):
            return event().replace(b"{", b'{"p":' + b"[" * levels + b"]" * levels + b",", 1)

        decoded(deep(126))
        for value in (deep(127), deep(200_000), event(p="x" * (1 << 20))):
            with self.assertRaises(Bad):
                decoded(value)
        decoded(event(p="[" * 1000 + '\\"' + "{" * 1000))

    def test_all_forms_of_a_timestamp_are_read(self):
        second = START + 1_000_000
        for text, expected in {
            "2026-01-01 00:00:01.000": second,
            "2026-01-01T00:00:01": second,
            "2026-01-01T00:00:01Z": second,
            "2026-01-01 00:00:01+00:00": second,
            "2026-01-01T01:30:01+0130": second,
            "2025-12-31T23:00:01-01:00": second,
            "2026-01-01T00:00:01.1": second + 100_000,
            "2026-01-01T00:00:01.123456Z": second + 123_456,
            "2026-01-01T00:00:01.123456789Z": second + 123_456,
            "2026-01-01T00:00Z": START,
            "2026-01-01 01:00+01": START,
            "2026-01-01 00:00:01 UTC": second,
            "2026-01-01t00:00:01gmt": second,
            "2026-01-01 01:00:01.5 +01": second + 500_000,
            "2024-02-29T00:00:00Z": 1_709_164_800_000_000,
            "1969-12-31T23:59:59.999999Z": -1,
        }.items():
            with self.subTest(text):
                self.assertEqual(as_event_time("t", text), expected)
        for number, expected in {
            "1767225601": second,
            "1767225601.25": second + 250_000,
            "1.767225601e9": second,
            "1767225601000": second,
            "1767225601000.5": second + 500,
            "99999999999": 99_999_999_999_000_000,
            "100000000000": 100_000_000_000_000,
            "-1": -1_000_000,
            "0": 0,
            "-100000000000": -100_000_000_000_000,
            "1767225601.99999999999999999999999999999999999999999999": second + 999_999,
            "99999999999.99999999999999999999999999999999999999": 99_999_999_999_999_999,
            "-1.0000019": -1_000_001,
            "1e-999999999": 0,
            "-62135596800": -62_135_596_800_000_000,
            "253402300799999": 253_402_300_799_999_000,
        }.items():
            with self.subTest(number):
                self.assertEqual(as_event_time("t", Number(number)), expected)

    def test_what_looks_like_a_timestamp_is_bad(self):
        for text in (
            "",
            "2026-01-01",
            "1767225600",
            "2026-01-01T00:00:60Z",
            "2026-01-01T24:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:0Z",
            "2026-01-01T00:00.5Z",
            "2026-01-01T00:00:00  Z",
            "2026-01-01T00:00:00 CET",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.1234567890Z",
            "2026-01-01T00:00:00+25:00",
            "2026-01-01T00:00:00+1",
            " 2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z ",
            "2026-1-01T00:00:00Z",
            "٢٠٢٦-01-01T00:00:00Z",
            "now",
            True,
            Number("1e30"),
            Number("253402300800000"),
            Number("-62135596801"),
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            Number("1e999999999"),
        ):
            with self.subTest(text), self.assertRaises(Bad):
                as_event_time("t", text)


class Output(unittest.TestCase):
    """A small output folder as the runner writes it, and the same with one thing wrong."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = os.path.join(self.folder.name, "out")
        self.expected = os.path.join(self.folder.name, "expected.parquet")
        dump = os.path.join(self.folder.name, "dump.jsonl")
        # Two windows on both sides of midnight UTC, one of them before 1970 is rounded down, not towards zero.
        values = [
            event(timestamp="2025-12-31T23:59:30Z", session_id="b"),
            event(timestamp="2025-12-31T23:59:59.999999999Z", session_id="a"),
            event(timestamp="2026-01-01T00:00:00Z"),
            event(timestamp="2026-01-01T00:00:00Z", user_id="v"),
            event(timestamp=-1),
            None,
            b"bad",
        ]
        with open(dump, "w", encoding="utf-8") as file:
            for offset, value in enumerate(values):
                value = None if value is None else base64.b64encode(value).decode()
                record = {
                    "topic": "t",
                    "partition": 0,
                    "offset": offset,
                    "timestamp_ms": 0,
                    "key": None,
                    "value": value,
                }
                file.write(json.dumps(record) + "\n")
        code, self.counts = run(expect_event_aggregation, dump, self.expected, "--bad", dump + ".bad")
        self.assertEqual(code, 0)
        with open(dump + ".bad", encoding="utf-8") as file:
            self.bad = [json.loads(line)["offset"] for line in file]
        self.rows = pyarrow.parquet.read_table(self.expected).to_pylist()
        for row in self.rows:
            row["date"] = str(row["date"])

    def write(self, name, rows, **types):
        columns = {
            "window_start": pa.timestamp("us", "UTC"),
            "window_end": pa.timestamp("us", "UTC"),
            "user_id": pa.string(),
            "event_type": pa.string(),
            "app_type": pa.string(),
            "event_count": pa.int64(),
            "session_ids": pa.list_(pa.string()),
            "processing_time": pa.timestamp("us", "UTC"),
            **types,
        }
        for date in {row["date"] for row in rows}:
            folder = os.path.join(self.out, f"date={date}")
            os.makedirs(folder, exist_ok=True)
            own = [{"processing_time": 1, **row} for row in rows if row["date"] == date]
            arrays = {name: pa.array([row[name] for row in own], kind) for name, kind in columns.items()}
            # As a careful writer does: readers never meet half a file.
            pyarrow.parquet.write_table(pa.table(arrays), os.path.join(self.folder.name, "partial"))
            os.rename(os.path.join(self.folder.name, "partial"), os.path.join(folder, name))

    def compare(self, *options):
        code, report = run(compare, self.out, self.expected, *options)
        self.assertEqual(list(report), ["duckdb", "pyarrow"])
        same = [
            {name: result[name] for name in ("rows", "missing", "extra", "duplicates", "wrong", "events", "types")}
            for result in report.values()
        ]
        self.assertEqual(same[0], same[1], "both readers see the same")
        return code, same[0]

    def check(self, code, options=(), **expected):
        found_code, found = self.compare(*options)
        self.assertEqual(found_code, code, found)
        self.assertEqual({name: found[name] for name in expected}, expected)

    def test_counts_and_windows_are_computed_from_the_records(self):
        self.assertEqual(self.counts, {"records": 7, "tombstones": 1, "bad": 1, "future": 0, "duplicates": 0, "accepted": 5, "rows": 4})
        self.assertEqual(self.bad, [6])
        found = [
            (str(row["window_start"]), row["user_id"], row["event_count"], row["session_ids"], str(row["date"]))
            for row in self.rows
        ]
        self.assertEqual(
            found,
            [
                ("1969-12-31 23:59:00", "u", 1, ["s"], "1969-12-31"),
                ("2025-12-31 23:59:00", "u", 2, ["a", "b"], "2025-12-31"),
                ("2026-01-01 00:00:00", "u", 1, ["s"], "2026-01-01"),
                ("2026-01-01 00:00:00", "v", 1, ["s"], "2026-01-01"),
            ],
        )

    def test_an_exact_output_is_equal(self):
        self.write("a.parquet", self.rows[:2])
        self.write("b.parquet", self.rows[2:])
        self.check(0, rows=4, missing=0, extra=0, duplicates=0, wrong=0, events=5, types=[])

    def test_no_output_misses_every_row(self):
        self.check(1, rows=0, missing=4)

    def test_a_missing_row_is_found(self):
        self.write("a.parquet", self.rows[1:])
        self.check(1, missing=1, extra=0, wrong=0)
        self.check(0, ["--subset"], missing=1)

    def test_an_extra_row_is_found(self):
        self.write("a.parquet", self.rows + [{**self.rows[0], "user_id": "stranger"}])
        self.check(1, missing=0, extra=1)
        self.check(1, ["--subset"], extra=1)

    def test_a_row_that_stands_twice_is_found(self):
        self.write("a.parquet", self.rows)
        self.write("b.parquet", self.rows[:1])
        self.check(1, rows=5, missing=0, extra=0, duplicates=1, wrong=0)

    def test_every_wrong_value_is_found(self):
        for change in (
            {"event_count": 3},
            {"event_count": None},
            {"session_ids": ["b", "a"]},
            {"session_ids": ["a"]},
            {"session_ids": None},
            {"window_end": self.rows[0]["window_end"]},
            {"date": "2025-12-30"},
            {"processing_time": None},
        ):
            with self.subTest(change):
                self.write("a.parquet", [self.rows[0], {**self.rows[1], **change}, *self.rows[2:]])
                self.check(1, missing=0, extra=0, duplicates=0, wrong=1)
                for folder, _, files in os.walk(self.out):
                    for file in files:
                        os.unlink(os.path.join(folder, file))

    def test_a_wrong_type_is_found(self):
        self.write("a.parquet", self.rows, event_count=pa.int32())
        self.check(1, wrong=0, types=["event_count: int32"])
        self.write("a.parquet", self.rows, window_start=pa.timestamp("ms", "UTC"))
        self.check(1, wrong=0, types=["window_start: timestamp[ms, tz=UTC]"])

    def test_the_watermark_says_which_windows_must_be_there(self):
        self.write("a.parquet", self.rows[:2])
        self.check(0, ["--watermark", START], rows=2, missing=0, extra=0)
        self.check(1, ["--watermark", START + MINUTE], missing=2)
        self.write("b.parquet", self.rows[2:])
        self.check(1, ["--watermark", START + MINUTE - 1], extra=2)

    def test_with_late_events_a_row_may_count_fewer_but_never_more(self):
        self.write("a.parquet", [{**self.rows[1], "event_count": 1, "session_ids": ["b"]}])
        self.check(0, ["--late"], wrong=0, missing=3, events=1)
        for change in ({"event_count": 3}, {"session_ids": ["c"]}, {"event_count": 0}):
            with self.subTest(change):
                self.write("a.parquet", [{**self.rows[1], **change}])
                self.check(1, ["--late"], wrong=1)

    def watch(self, steps, *options):
        """Runs watch.py; `steps` happen one after the other while it reads."""
        until, progress = (os.path.join(self.folder.name, name) for name in ("until", "progress"))
        for file in (until, progress):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)
        watcher = os.path.join(HERE, "watch.py")
        command = [sys.executable, watcher, self.out, "--until", until, "--progress", progress, "--pause", "0.01"]
        command += options
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for step in steps:
                step()
                self.wait_for_reads(process, progress)
            with open(until, "w", encoding="utf-8"):
                pass
            report = json.loads(process.communicate(timeout=60)[0])
        return process.returncode, report

    def wait_for_reads(self, process, progress):
        """One read may have begun before the step; the second one has seen it."""

        def reads():
            with contextlib.suppress(FileNotFoundError), open(progress, encoding="utf-8") as file:
                return int(file.read())
            return 0

        before = reads()
        deadline = time.monotonic() + 60
        while reads() < before + 2:
            self.assertIsNone(process.poll(), "the watcher ended")
            self.assertLess(time.monotonic(), deadline, "the watcher reads no more")
            time.sleep(0.01)

    def test_a_watched_output_that_grows_is_never_an_error(self):
        code, report = self.watch(
            [
                lambda: None,
                lambda: os.makedirs(self.out),
                lambda: self.write("a.parquet", self.rows[:2]),
                lambda: self.write("b.parquet", self.rows[2:]),
            ]
        )
        self.assertEqual((code, report["errors"], report["duplicates"]), (0, [], 0))
        self.assertEqual(report["rows_last"], {"duckdb": 4, "pyarrow": 4})
        self.assertGreater(report["reads"], 3)

    def test_a_watcher_sees_a_torn_file_a_lost_file_and_a_double_row(self):
        def tear():
            with open(os.path.join(self.out, "date=2026-01-01", "torn.parquet"), "w", encoding="utf-8") as file:
                file.write("PAR1")

        def heal():
            os.unlink(os.path.join(self.out, "date=2026-01-01", "torn.parquet"))

        def lose():
            os.unlink(os.path.join(self.out, "date=2025-12-31", "a.parquet"))

        code, report = self.watch([lambda: self.write("a.parquet", self.rows), tear, heal])
        self.assertEqual(code, 1)
        self.assertEqual({error["reader"] for error in report["errors"]}, {"duckdb", "pyarrow"})
        code, report = self.watch([lambda: None, lose])
        self.assertEqual(code, 1, report)
        self.assertIn("rows before", report["errors"][0]["error"])
        code, report = self.watch([lambda: self.write("b.parquet", self.rows[2:])])
        self.assertEqual((code, report["duplicates"], report["errors"]), (1, 2, []))

    def test_a_watcher_knows_rows_by_any_columns_or_by_none(self):
        twice = [lambda: self.write("a.parquet", self.rows), lambda: self.write("b.parquet", self.rows[2:])]
        code, report = self.watch(twice, "--key", "window_start,user_id,event_type,app_type")
        self.assertEqual((code, report["duplicates"], report["errors"]), (1, 2, []))
        code, report = self.watch([lambda: None], "--key", "")
        self.assertEqual((code, report["duplicates"], report["errors"]), (0, 0, []))

    def test_dead_letters_are_the_bad_records_with_their_bytes(self):
        folder = os.path.join(self.folder.name, "letters")
        bad = [("t", 0, 7, b"{"), ("t", 1, 7, b"\xff")]

        def letters(rows):
            os.makedirs(folder, exist_ok=True)
            names = ("topic", "partition", "offset", "value")
            table = pa.Table.from_pylist([dict(zip(names, row)) for row in rows])
            pa.parquet.write_table(table, os.path.join(folder, "a.parquet"))
            report = dead_letters.difference(folder, bad)
            return report["missing"], report["extra"]

        self.assertEqual(dead_letters.difference(folder, bad)["missing"], 4, "two, by both readers")
        self.assertEqual(letters(bad), (0, 0))
        self.assertEqual(letters(bad[1:]), (2, 0))
        self.assertEqual(letters([*bad, bad[0]]), (0, 2))
        self.assertEqual(letters([bad[0], ("t", 1, 7, b"x")]), (2, 2))


if __name__ == "__main__":
    unittest.main()
