"""Delta tables by Spark, which is where the format comes from.

    delta_spark.py read TABLE       every row: {"rows": [...]}, in no order
    delta_spark.py write FOLDER     tables that only Spark writes: what tests/tables/spark holds

The jars of delta-spark are in the folder that DELTA_JARS names. Runs in an environment of its own (tests/env/spark).
"""

import json
import os
import sys
import tempfile

from pyspark.sql import SparkSession

from rows import plain

SETTINGS = {
    "spark.master": "local[1]",
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

# What a table needs, by its name, and what becomes of its ten rows.
TABLES = {
    "plain": ("'delta.enableDeletionVectors' = 'false'", []),
    "vectors": ("'delta.enableDeletionVectors' = 'true'", ["DELETE FROM {} WHERE n = 3"]),
    "purged": (
        "'delta.enableDeletionVectors' = 'true'",
        ["DELETE FROM {} WHERE n = 3", "REORG TABLE {} APPLY (PURGE)"],
    ),
    "v2": (
        "'delta.checkpointPolicy' = 'v2', 'delta.checkpointInterval' = '1'",
        ["INSERT INTO {} SELECT id, 'x', timestamp_seconds(1767225600) FROM range(20, 21)"],
    ),
    "mapped": ("'delta.columnMapping.mode' = 'name'", []),
}


def value(found):
    """Rows in rows, and times as Python has them where nobody tells it a zone: of this machine."""
    if hasattr(found, "asDict"):
        return {name: value(item) for name, item in found.asDict().items()}
    if isinstance(found, list):
        return [value(item) for item in found]
    if hasattr(found, "astimezone"):
        return plain(found.astimezone())
    return plain(found)


def read(spark, table):
    rows = spark.read.format("delta").load(table).collect()
    return {"rows": [value(row) for row in rows]}


def write(spark, folder):
    for name, (properties, statements) in TABLES.items():
        table = f"delta.`{os.path.join(folder, name)}`"
        spark.sql(f"CREATE TABLE {table} (n BIGINT, name STRING, at TIMESTAMP) USING delta TBLPROPERTIES ({properties})")
        spark.sql(f"INSERT INTO {table} SELECT id, concat('s', id), timestamp_seconds(1767225600 + id) FROM range(10)")
        for statement in statements:
            spark.sql(statement.format(table))
    return {"tables": sorted(TABLES)}


def main():
    what, place = sys.argv[1:]
    jars = os.environ["DELTA_JARS"]
    settings = SETTINGS | {"spark.jars": ",".join(os.path.join(jars, name) for name in sorted(os.listdir(jars)))}
    with tempfile.TemporaryDirectory() as warehouse:
        settings["spark.sql.warehouse.dir"] = warehouse
        spark = SparkSession.builder.config(map=settings).getOrCreate()
        spark.sparkContext.setLogLevel("ERROR")
        report = {"read": read, "write": write}[what](spark, place)
        spark.stop()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
