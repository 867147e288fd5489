"""Every reader of docs/readers.md over one table that a job wrote.

    every_reader.py FOLDER READER...

FOLDER holds `outputs/orders`, which the readers see, and `records.jsonl`, the values of the records of which the job made it.
READER is the beginning of a line of the page's table, such as `polars`. For each: the plain call of the table gives `date` the
type that the table says, and the block of the reader's section gives every row and every type. Prints one JSON object:
{reader: {"rows": number, "seconds": number, "wrong": [...]}}; ends with 1 if something is wrong.
"""

import base64
import datetime
import decimal
import json
import os
import re
import sys
import time

import pyarrow as pa

from rows import plain

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "readers.md")
TYPES = {
    "n": "int64",
    "small": "int32",
    "price": "double",
    "amount": "decimal128(12, 2)",
    "paid": "bool",
    "name": "string",
    "at": "timestamp[us, UTC]",
    "day": "date32[day]",
    "tags": "list<string>",
    "place": "struct<city: string, zip: int32>",
    "attributes": "map<string, string>",
    "raw": "binary",
    "date": "date32[day]",
    "shop": "string",
}
# What the page says that chdb does not tell apart: null and empty.
EMPTY_IN_CHDB = {"tags": [], "attributes": {}, "place": {"city": None, "zip": None}}


def page():
    with open(PAGE, encoding="utf-8") as file:
        return file.read()


def said(text):
    """The lines of the page's table: {reader: its cells}. Names are without versions."""
    lines = [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in text.splitlines() if "|" in line]
    return {re.sub(r" \d[\d.]*", "", cells[0].strip("| ")): cells for cells in lines if len(cells) == 6}


def blocks(text):
    """The block of each reader's section."""
    sections = [section.partition("\n") for section in text.split("\n## ")[1:]]
    code = {title: re.search(r"^```python\n(.*?)^```", body, re.MULTILINE | re.DOTALL) for title, _, body in sections}
    return {title: found[1] for title, found in code.items() if found}


def as_arrow(rows):
    if isinstance(rows, pa.Table):
        return rows
    for method in ("to_arrow_table", "to_arrow", "toArrow"):
        if hasattr(rows, method):
            return getattr(rows, method)()
    return pa.Table.from_pandas(rows, preserve_index=False)


def kind(data_type):
    """A type in the words of TYPES: how texts, lists and dictionaries are held in memory does not matter."""
    if pa.types.is_dictionary(data_type):
        return kind(data_type.value_type)
    if pa.types.is_map(data_type):
        return f"map<{kind(data_type.key_type)}, {kind(data_type.item_type)}>"
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or str(data_type).startswith("list_view"):
        return f"list<{kind(data_type.value_type)}>"
    if pa.types.is_struct(data_type):
        return f"struct<{', '.join(f'{field.name}: {kind(field.type)}' for field in data_type)}>"
    if pa.types.is_timestamp(data_type) and data_type.tz in ("UTC", "Etc/UTC"):
        return f"timestamp[{data_type.unit}, UTC]"
    text = str(data_type)
    return re.sub(r"^(large_|)(string|binary)(_view|)$", r"\2", text)


def expected(path):
    """The rows, computed of the records' values, which are what the job read."""
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line, parse_float=decimal.Decimal)
            row = {name: record.get(name) for name in TYPES if name != "date"}
            at = datetime.datetime.fromisoformat(record["at"].replace("Z", "+00:00"))
            row["at"], row["date"] = plain(at), str(at.date())
            if row["price"] is not None:
                row["price"] = float(row["price"])
            if row["amount"] is not None:
                row["amount"] = str(decimal.Decimal(row["amount"]).quantize(decimal.Decimal("0.01")))
            if row["raw"] is not None:
                row["raw"] = base64.b64decode(row["raw"]).hex()
            rows.append(row)
    return sorted(rows, key=lambda row: row["n"])


def seen(table):
    """The rows of a reader, in the same form."""
    rows = [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]
    for row in rows:
        if row.get("attributes") is not None:
            row["attributes"] = dict(row["attributes"])
    return sorted(rows, key=lambda row: row["n"])


def by_datafusion():
    from datafusion import SessionContext

    session = SessionContext()
    session.sql("CREATE EXTERNAL TABLE orders STORED AS PARQUET LOCATION 'outputs/orders/'")
    return session.sql("SELECT * FROM orders")


def by_spark():
    from pyspark.sql import SparkSession

    settings = {"spark.master": "local[2]", "spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1"}
    return SparkSession.builder.config(map=settings).getOrCreate().read.parquet("outputs/orders")


# The calls of the page's table.
CALLS = {
    "DuckDB": lambda: __import__("duckdb").sql(
        "FROM read_parquet('outputs/orders/**/*.parquet', hive_partitioning = true)"
    ),
    "pyarrow": lambda: __import__("pyarrow.dataset").dataset.dataset("outputs/orders", partitioning="hive").to_table(),
    "pandas": lambda: __import__("pandas").read_parquet("outputs/orders", dtype_backend="pyarrow"),
    "polars, folder": lambda: __import__("polars").read_parquet("outputs/orders"),
    "polars, glob": lambda: __import__("polars").read_parquet("outputs/orders/**/*.parquet", hive_partitioning=True),
    "DataFusion": by_datafusion,
    "chdb": lambda: __import__("chdb").query("SELECT * FROM file('outputs/orders/**/*.parquet')", "ArrowTable"),
    "Spark": by_spark,
}


def look(reader, cells, block, rows):
    """What is wrong about one reader."""
    wrong = []
    date = {"date32[day]": "date", "string": "text"}[kind(as_arrow(CALLS[reader]()).schema.field("date").type)]
    if date != cells[2]:
        wrong.append(f"date is {date}, the page says {cells[2]}")
    names = {}
    exec(compile(block, reader, "exec"), names)
    table = as_arrow(names["rows"])
    types = {field.name: kind(field.type) for field in table.schema}
    if reader == "chdb":
        types["raw"] = {"string": "binary"}.get(types["raw"])
        rows = [{name: EMPTY_IN_CHDB.get(name) if item is None else item for name, item in row.items()} for row in rows]
    if types != TYPES:
        names = [name for name in {*types, *TYPES} if types.get(name) != TYPES.get(name)]
        wrong.append({name: (types.get(name), TYPES.get(name)) for name in names})
    found = seen(table)
    if found != rows:
        pairs = [(one, other) for one, other in zip(found, rows) if one != other]
        wrong.append({"rows": len(found), "expected": len(rows), "first": [str(row) for row in pairs[:1]]})
    return wrong, len(found)


def main():
    folder, *wanted = sys.argv[1:]
    os.chdir(folder)
    text = page()
    lines, code, rows = said(text), blocks(text), expected("records.jsonl")
    assert set(lines) - {"reader"} == set(code) == set(CALLS), (set(lines), set(code))
    report = {}
    for reader in [name for name in CALLS if any(name.startswith(start) for start in wanted)]:
        begin = time.monotonic()
        wrong, count = look(reader, lines[reader], code[reader], rows)
        report[reader] = {"rows": count, "seconds": round(time.monotonic() - begin, 2), "wrong": wrong}
    print(json.dumps(report, default=str))
    sys.stdout.flush()
    # Threads of some libraries are not always ready for the end of the interpreter.
    os._exit(1 if any(result["wrong"] for result in report.values()) else 0)


if __name__ == "__main__":
    main()
