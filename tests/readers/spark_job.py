"""Runs the old job of docs/guides/migrate-from-pyspark.md on Spark, and compares its table with the new job's.

    spark_job.py FOLDER

FOLDER holds `records`, a folder of files with one value a line, and `outputs/events_aggregated`, what the new job made of the
same values. The page's code runs as it is printed, but for three things: it reads text files instead of Kafka (whose options they
pass over), once, and writes below FOLDER. Prints {"rows", "missing", "extra", "examples"}; ends with 1 on a difference.
"""

import json
import os
import re
import sys

import pyarrow.dataset

from rows import plain

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "guides", "migrate-from-pyspark.md")
SETTINGS = {
    "spark.master": "local[2]",
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "2",
    # Its default is INT96, which readers take for a time without a zone.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}


def code(folder):
    with open(PAGE, encoding="utf-8") as file:
        text = re.search(r"^```python\n(.*?)^```", file.read(), re.MULTILINE | re.DOTALL)[1]
    for printed, here in (
        ('.format("kafka")', '.format("text")'),
        (".load()", f".load({os.path.join(folder, 'records')!r})"),
        ('processingTime="10 seconds"', "availableNow=True"),
        ('"/data/', f'"{folder}/spark/'),
    ):
        assert printed in text, printed
        text = text.replace(printed, here)
    return text


def rows(folder):
    """Without the order of sets."""
    table = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").to_table()
    found = [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]
    for row in found:
        row["session_ids"] = sorted(row["session_ids"])
    return sorted(json.dumps(row, sort_keys=True) for row in found)


def main():
    (folder,) = sys.argv[1:]
    from pyspark.sql import SparkSession

    SparkSession.builder.config(map=SETTINGS).getOrCreate().sparkContext.setLogLevel("ERROR")
    names = {}
    exec(compile(code(folder), PAGE, "exec"), names)
    names["query"].awaitTermination()
    theirs = rows(os.path.join(folder, "spark", "outputs", "events_aggregated"))
    ours = rows(os.path.join(folder, "outputs", "events_aggregated"))
    missing, extra = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    report = {"rows": len(ours), "missing": len(missing), "extra": len(extra), "examples": [missing[:2], extra[:2]]}
    print(json.dumps(report))
    sys.exit(1 if missing or extra or len(ours) != len(theirs) or not ours else 0)


if __name__ == "__main__":
    main()
