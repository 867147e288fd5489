"""The two plain readers of an output folder: they know Parquet and Hive folders, and nothing of the platform.

Each gives an Arrow table of the columns that the tests compare; timestamps as microseconds since 1970, so that no
time zone of a reader can hide a difference. A folder without files gives None.
"""

import os

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

READERS = ("duckdb", "pyarrow")
KEY = ("window_start", "user_id", "event_type", "app_type")


def microseconds(column):
    return pc.cast(pc.cast(column, pa.timestamp("us", "UTC")), pa.int64())


def read_duckdb(folder):
    pattern = os.path.join(folder, "**", "*.parquet").replace("'", "''")
    # A database of its own for every read: nothing is remembered from the read before.
    with duckdb.connect() as database:
        if database.sql(f"FROM glob('{pattern}') LIMIT 1").fetchall() == []:
            return None
        return database.sql(
            f"""
            SELECT epoch_us(window_start) AS window_start, epoch_us(window_end) AS window_end,
                   CAST(user_id AS VARCHAR) AS user_id, CAST(event_type AS VARCHAR) AS event_type,
                   CAST(app_type AS VARCHAR) AS app_type, CAST(event_count AS BIGINT) AS event_count,
                   CAST(session_ids AS VARCHAR[]) AS session_ids, CAST(date AS VARCHAR) AS date,
                   processing_time IS NULL AS no_processing_time
            FROM read_parquet('{pattern}', hive_partitioning = true)
            """
        ).to_arrow_table()


def read_pyarrow(folder):
    dataset = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive")
    if not dataset.files:
        return None
    table = dataset.to_table()
    text = {name: pc.cast(table[name], pa.string()) for name in ("user_id", "event_type", "app_type", "date")}
    return pa.table(
        {
            "window_start": microseconds(table["window_start"]),
            "window_end": microseconds(table["window_end"]),
            "user_id": text["user_id"],
            "event_type": text["event_type"],
            "app_type": text["app_type"],
            "event_count": pc.cast(table["event_count"], pa.int64()),
            "session_ids": pc.cast(table["session_ids"], pa.list_(pa.string())),
            "date": text["date"],
            "no_processing_time": pc.is_null(table["processing_time"]),
        }
    )


def read(reader, folder):
    return {"duckdb": read_duckdb, "pyarrow": read_pyarrow}[reader](folder)


def read_any(reader, folder, format="parquet"):
    """All columns of any table as they are; of csv and ndjson as the reader takes them."""
    if reader == "pyarrow":
        return read_dataset(folder, format)
    pattern = os.path.join(folder, "**", f"*.{format}").replace("'", "''")
    function = {"parquet": "read_parquet", "csv": "read_csv", "ndjson": "read_ndjson"}[format]
    with duckdb.connect() as database:
        if database.sql(f"FROM glob('{pattern}') LIMIT 1").fetchall() == []:
            return None
        return database.sql(f"FROM {function}('{pattern}', hive_partitioning = true)").to_arrow_table()


def read_dataset(folder, format):
    kinds = {"parquet": "parquet", "csv": "csv", "ndjson": "json"}
    dataset = pyarrow.dataset.dataset(folder, format=kinds[format], partitioning="hive")
    return dataset.to_table() if dataset.files else None


def duplicates(table, key=KEY):
    """Rows beyond the first of each key; a table without one may have rows that are equal."""
    return table.num_rows - table.group_by(list(key)).aggregate([]).num_rows if key else 0
