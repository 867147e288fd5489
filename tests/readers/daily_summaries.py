"""Checks the output of daily-summaries against its inputs, with an aggregation of its own.

    daily_summaries.py OUT_DIR HOURS_DIR SESSIONS_DIR DAY...

DAY is `2026-01-01`: the output must hold exactly these days, each once, with the values that DuckDB and Python compute from
the hours and sessions. Prints JSON {"rows", "problems"}; ends with 1 if there were problems.
"""

import glob
import json
import math
import os
import sys

import duckdb

OF_TYPE = ["event_type", "app_type", "total_events", "active_hours", "peak_hour", "peak_hour_events"]
OF_DAY = [
    "sessions", "total_clicks", "avg_clicks_per_session", "avg_pages_per_session", "median_session_duration",
    "p95_session_duration", "p99_session_duration", "bounce_rate",
]


def rows(connection, folder, columns):
    """The rows of a table as dictionaries, times as microseconds."""
    if not glob.glob(os.path.join(folder, "**", "*.parquet"), recursive=True):
        return []
    found = connection.execute(
        f"SELECT {columns} FROM read_parquet(?, hive_partitioning = true, union_by_name = true)",
        [os.path.join(folder, "**", "*.parquet")],
    )
    names = [column[0] for column in found.description]
    return [dict(zip(names, row)) for row in found.fetchall()]


def percentile(values, share):
    """Linear between the two values around the place."""
    values = sorted(values)
    place = (len(values) - 1) * share
    below = values[math.floor(place)]
    return below + (values[math.ceil(place)] - below) * (place - math.floor(place))


def expected(hours, sessions):
    """The rows of one day."""
    groups = {}
    for row in hours:
        groups.setdefault((row["event_type"], row["app_type"]), []).append(row)
    of_type = []
    for (event_type, app_type), members in groups.items():
        peak = min(members, key=lambda row: (-row["event_count"], row["micros"]))
        of_type.append([
            event_type, app_type, sum(row["event_count"] for row in members), len({row["micros"] for row in members}),
            peak["micros"] // 3_600_000_000 % 24, peak["event_count"],
        ])
    count = len(sessions)
    of_day = [0, 0] + [None] * 6
    if count:
        durations = [row["session_duration_sec"] for row in sessions]
        clicks = sum(row["total_clicks"] for row in sessions)
        of_day = [
            count, clicks, clicks / count, sum(row["unique_pages"] for row in sessions) / count,
            percentile(durations, 0.5), percentile(durations, 0.95), percentile(durations, 0.99),
            sum(row["unique_pages"] == 1 for row in sessions) / count,
        ]
    if not of_type and count:
        of_type = [[None] * len(OF_TYPE)]
    return [row + of_day for row in of_type]


def same(one, other):
    """Equal, doubles to a few last digits."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)
    return one == other and (isinstance(one, float) == isinstance(other, float) or one is None)


def main():
    out_dir, hours_dir, sessions_dir, *days = sys.argv[1:]
    connection = duckdb.connect()
    hours = rows(connection, hours_dir, "event_type, app_type, event_count, epoch_us(hour) AS micros")
    sessions = rows(
        connection,
        sessions_dir,
        "total_clicks, unique_pages, session_duration_sec, epoch_us(session_start) AS micros",
    )
    columns = ", ".join(OF_TYPE + OF_DAY)
    found = rows(connection, out_dir, f"CAST(event_date AS VARCHAR) AS day, {columns}, epoch_us(processing_time) AS at")
    problems = []
    wrong_days = {row["day"] for row in found} - set(days)
    if wrong_days:
        problems.append(f"days not asked for: {sorted(wrong_days)}")
    for day in days:
        number = connection.execute("SELECT epoch_us(CAST(? AS TIMESTAMP)) // 86400000000", [day]).fetchone()[0]
        of_day = lambda table: [row for row in table if row["micros"] // 86_400_000_000 == number]
        wanted = expected(of_day(hours), of_day(sessions))
        actual = [row for row in found if row["day"] == day]
        key = lambda values: (str(values[0]), str(values[1]))
        left = sorted(([row[name] for name in OF_TYPE + OF_DAY] for row in actual), key=key)
        right = sorted(wanted, key=key)
        if len(left) != len(right):
            problems.append(f"{day}: {len(left)} rows, not {len(right)}")
        for one, other in zip(left, right):
            different = [
                (name, a, b) for name, a, b in zip(OF_TYPE + OF_DAY, one, other) if not same(a, b)
            ]
            if different:
                problems.append(f"{day} {one[:2]}: {different}")
        if len({row["at"] for row in actual}) > 1 or any(row["at"] is None for row in actual):
            problems.append(f"{day}: not from one run")
    print(json.dumps({"rows": len(found), "problems": problems[:20]}))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
