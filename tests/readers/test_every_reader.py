"""What docs/readers.md says of readers, each statement on a small table made here; and that every_reader.py can fail."""

import contextlib
import os
import sys
import tempfile
import unittest
from unittest import mock

import datafusion
import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

import every_reader

NULL = "__HIVE_DEFAULT_PARTITION__"


@contextlib.contextmanager
def table(values):
    """A folder `t` with a directory `p=…` for each value, and one row in it; its parent is the working folder meanwhile."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for number, value in enumerate(values):
                replace(f"t/p={value}/f.parquet", [number])
            yield
        finally:
            os.chdir(before)


def replace(path, numbers):
    """As a batch job does: a new file in the place of the old one."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pyarrow.parquet.write_table(pa.table({"n": pa.array(numbers, pa.int32())}), "next", store_schema=False)
    os.rename("next", path)


def session():
    context = datafusion.SessionContext()
    context.sql("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 't/'")
    return context


def by_each_reader():
    """The column `p` by the plain call of each reader."""
    tables = {
        "DuckDB": duckdb.sql("FROM read_parquet('t/**/*.parquet', hive_partitioning = true)").to_arrow_table(),
        "pyarrow": pyarrow.dataset.dataset("t", partitioning="hive").to_table(),
        "pandas": pa.Table.from_pandas(pandas.read_parquet("t", dtype_backend="pyarrow")),
        "polars": polars.read_parquet("t").to_arrow(),
        "DataFusion": session().sql("SELECT * FROM t").to_arrow_table(),
    }
    return {name: sorted(found["p"].to_pylist(), key=str) for name, found in tables.items()}


class Directories(unittest.TestCase):
    def test_the_directory_of_null_is_null_but_for_datafusion(self):
        with table(["a", NULL]):
            found = by_each_reader()
        self.assertEqual(found.pop("DataFusion"), [NULL, "a"])
        self.assertEqual(found, dict.fromkeys(found, [None, "a"]))

    def test_whole_numbers_are_numbers_in_most_readers_and_texts_in_datafusion(self):
        with table(["12", "34"]):
            found = by_each_reader()
        self.assertEqual(found.pop("DataFusion"), ["12", "34"])
        self.assertEqual(found, dict.fromkeys(found, [12, 34]))

    def test_leading_zeros_stay_in_duckdb_and_datafusion(self):
        with table(["01234", "98765"]):
            found = by_each_reader()
            told = polars.read_parquet("t", hive_schema={"p": polars.String})["p"].to_list()
        self.assertEqual((found.pop("DuckDB"), found.pop("DataFusion")), (["01234", "98765"],) * 2)
        self.assertEqual(found, dict.fromkeys(found, [1234, 98765]))
        self.assertEqual(sorted(told), ["01234", "98765"])

    def test_duckdb_can_be_told_a_type(self):
        with table(["12", "34"]):
            call = "read_parquet('t/**/*.parquet', hive_partitioning = true, hive_types = {'p': VARCHAR})"
            self.assertEqual(duckdb.sql(f"SELECT DISTINCT typeof(p) FROM {call}").fetchall(), [("VARCHAR",)])

    def test_pandas_needs_its_arrow_types_where_a_directory_is_null_or_an_integer_is(self):
        with table(["a", NULL]):
            with self.assertRaisesRegex(pa.ArrowInvalid, "Cannot yet unify dictionaries with nulls"):
                pandas.read_parquet("t")
        with table(["a"]):
            replace("t/p=a/f.parquet", [1, None])
            self.assertEqual(str(pandas.read_parquet("t")["n"].dtype), "float64")
            self.assertEqual(str(pandas.read_parquet("t", dtype_backend="pyarrow")["n"].dtype), "int32[pyarrow]")

    def test_a_glob_of_polars_has_no_directories_unless_it_is_told(self):
        with table(["a", "b"]):
            self.assertEqual(polars.read_parquet("t/**/*.parquet").columns, ["n"])
            self.assertEqual(polars.read_parquet("t/**/*.parquet", hive_partitioning=True).columns, ["n", "p"])

    def test_datafusion_fails_where_a_null_directory_is_declared_a_date(self):
        with table(["2026-02-16", NULL]):
            context = datafusion.SessionContext()
            context.register_parquet("t", "t/", table_partition_cols=[("p", pa.date32())])
            with self.assertRaisesRegex(Exception, f"Cannot cast string '{NULL}'"):
                context.sql("SELECT n FROM t").collect()


class Python(unittest.TestCase):
    def test_duckdb_needs_pytz_to_fetch_timestamps(self):
        time = duckdb.sql("SELECT TIMESTAMPTZ '2026-02-16 14:00:00+00' AS at")
        with mock.patch.dict(sys.modules, {"pytz": None}):
            with self.assertRaisesRegex(duckdb.InvalidInputException, "pytz"):
                time.fetchall()
        self.assertEqual(time.to_arrow_table().num_rows, 1)


class Replaced(unittest.TestCase):
    def test_what_looked_before_counts_the_rows_of_before(self):
        with table(["a"]):
            replace("t/p=a/f.parquet", range(1_000))
            dataset = pyarrow.dataset.dataset("t", partitioning="hive")
            frame, context = polars.scan_parquet("t"), session()
            database = duckdb.connect()
            database.execute("CREATE VIEW t AS FROM read_parquet('t/**/*.parquet')")
            count = {
                "pyarrow": dataset.count_rows,
                "polars": lambda: frame.select(polars.len()).collect().item(),
                "DataFusion": lambda: context.sql("SELECT count(*) AS n FROM t").to_pydict()["n"][0],
                "DuckDB": lambda: database.sql("SELECT count(*) FROM t").fetchall()[0][0],
            }
            before = {name: ask() for name, ask in count.items()}
            replace("t/p=a/f.parquet", range(10))
            replace("t/p=a/g.parquet", range(7))
            after = {name: ask() for name, ask in count.items()}
            with self.assertRaises(OSError):
                dataset.to_table()
            anew = {name: len(rows) for name, rows in by_each_reader().items()}
        self.assertEqual(before, dict.fromkeys(before, 1_000))
        self.assertEqual(after, {"pyarrow": 1_000, "polars": 1_000, "DataFusion": 1_000, "DuckDB": 17})
        self.assertEqual(anew, dict.fromkeys(anew, 17))


class Page(unittest.TestCase):
    def test_the_page_has_a_line_a_section_and_a_call_for_each_reader(self):
        text = every_reader.page()
        lines = set(every_reader.said(text)) - {"reader"}
        self.assertEqual(lines, set(every_reader.blocks(text)))
        self.assertEqual(lines, set(every_reader.CALLS))

    def test_the_versions_of_the_page_are_those_that_are_tested(self):
        wanted = {}
        folder = os.path.join(os.path.dirname(every_reader.__file__), "..", "env", "python")
        for name in ("requirements.txt", "requirements-soak.txt"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                wanted.update(line.strip().split("==") for line in file if "==" in line)
        cells = [line[0] for line in every_reader.said(every_reader.page()).values() if line[0] != "reader"]
        for cell in cells:
            name, version = cell.strip("| ").split(",")[0].split(" ")
            package = {"Spark": "pyspark"}.get(name, name.lower())
            self.assertEqual(version, wanted[package], name)

    def test_types_are_compared_by_what_they_mean(self):
        same = (
            (pa.large_string(), "string"),
            (pa.string_view(), "string"),
            (pa.dictionary(pa.int32(), pa.string()), "string"),
            (pa.large_list(pa.large_string()), "list<string>"),
            (pa.map_(pa.string(), pa.string()), "map<string, string>"),
            (pa.timestamp("us", "Etc/UTC"), "timestamp[us, UTC]"),
        )
        for data_type, text in same:
            self.assertEqual(every_reader.kind(data_type), text)
        for data_type in (pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.timestamp("us", "Europe/Berlin")):
            self.assertNotEqual(every_reader.kind(data_type), "timestamp[us, UTC]")


if __name__ == "__main__":
    unittest.main()
