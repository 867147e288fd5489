"""Checks the output of hourly-aggregates against its input, with an aggregation of its own.

    hourly_aggregates.py OUT_DIR IN_DIR HOUR... [--until FILE --progress FILE]

HOUR is `2026-01-01 00:00:00` in UTC: the output must hold exactly these hours, each once, with the values that DuckDB
computes from the one-minute rows in IN_DIR, and all rows of an hour from one run (one processing_time). Prints JSON:

    {"rows", "reads", "again", "problems": [...]}

With --until it reads again and again until FILE appears, as other people's programs do while the job replaces hours; an
hour that is not there yet is then no problem, but half of one is. "again": reads that DuckDB could not finish because a
file was replaced between its two looks at it. --progress is a file that gets the number of reads.
Ends with 1 if there were problems.
"""

import argparse
import glob
import json
import os
import sys
import time

import duckdb

COLUMNS = "hour, event_type, app_type, event_count, unique_users, unique_sessions, peak_minute_events, date"
EXPECTED = """
    WITH input AS (
        SELECT *, date_trunc('hour', window_start) AS hour, date_trunc('minute', window_start) AS minute FROM raw
    ), minutes AS (
        SELECT hour, minute, event_type, app_type, sum(event_count) AS events FROM input GROUP BY ALL
    ), peaks AS (
        SELECT hour, event_type, app_type, CAST(max(events) AS BIGINT) AS peak_minute_events
        FROM minutes GROUP BY ALL
    ), totals AS (
        SELECT hour, event_type, app_type, CAST(sum(event_count) AS BIGINT) AS event_count,
               count(DISTINCT user_id) AS unique_users,
               len(list_distinct(flatten(list(session_ids)))) AS unique_sessions
        FROM input GROUP BY ALL
    )
    SELECT hour, event_type, app_type, event_count, unique_users, unique_sessions, peak_minute_events,
           CAST(hour AS DATE) AS date
    FROM totals JOIN peaks USING (hour, event_type, app_type)
"""


def files_of(out_dir):
    """Which files there are, so that one that took another's place is told from it."""
    found = {}
    for path in glob.glob(os.path.join(out_dir, "**", "*.parquet"), recursive=True):
        try:
            what = os.stat(path)
        except FileNotFoundError:
            continue
        found[path] = (what.st_ino, what.st_mtime_ns, what.st_size)
    return found


def check(connection, out_dir, hours, partly):
    """One read of the output."""
    files = glob.glob(os.path.join(out_dir, "**", "*.parquet"), recursive=True)
    if not files:
        return 0, [] if partly or not hours else ["there is no file"]
    connection.execute("DROP TABLE IF EXISTS output")
    connection.execute(
        """
        CREATE TABLE output AS SELECT * REPLACE (make_timestamp(epoch_us(hour)) AS hour)
        FROM read_parquet(?, hive_partitioning = true, union_by_name = true)
        """,
        [os.path.join(out_dir, "**", "*.parquet")],
    )
    problems = []
    rows = connection.execute("SELECT count(*) FROM output").fetchone()[0]
    found = {row[0] for row in connection.execute("SELECT DISTINCT CAST(hour AS VARCHAR) FROM output").fetchall()}
    wanted = found & set(hours) if partly else set(hours)
    for name, some in (("not asked for", found - set(hours)), ("missing", wanted - found)):
        if some:
            problems.append(f"hours {name}: {sorted(some)}")
    listed = ", ".join(f"TIMESTAMP '{hour}'" for hour in sorted(wanted)) or "NULL"
    expected = f"SELECT {COLUMNS} FROM expected WHERE hour IN ({listed})"
    actual = f"SELECT {COLUMNS} FROM output"
    for name, one, other in (("too much", actual, expected), ("too little", expected, actual)):
        difference = connection.execute(f"({one}) EXCEPT ALL ({other}) ORDER BY ALL LIMIT 3").fetchall()
        if difference:
            problems.append(f"{name}: {difference}")
    for query, problem in (
        ("SELECT hour FROM output GROUP BY hour HAVING count(DISTINCT processing_time) > 1", "two runs in one hour"),
        ("SELECT hour FROM output WHERE processing_time IS NULL", "no processing_time"),
        (
            "SELECT hour FROM output WHERE abs(avg_events_per_user - event_count / unique_users) > 1e-9",
            "avg_events_per_user is wrong",
        ),
    ):
        wrong = connection.execute(query).fetchall()
        if wrong:
            problems.append(f"{problem}: {wrong[:3]}")
    return rows, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir")
    parser.add_argument("in_dir")
    parser.add_argument("hours", nargs="*")
    parser.add_argument("--until")
    parser.add_argument("--progress")
    args = parser.parse_args()

    # Times without a zone, in UTC: what has a zone needs an extension.
    connection = duckdb.connect()
    connection.execute(
        """
        CREATE TABLE raw AS SELECT * REPLACE (make_timestamp(epoch_us(window_start)) AS window_start)
        FROM read_parquet(?, hive_partitioning = true)
        """,
        [os.path.join(args.in_dir, "**", "*.parquet")],
    )
    connection.execute(f"CREATE TABLE expected AS {EXPECTED}")
    parent, reads, again, problems, last = os.getppid(), 0, 0, [], False
    while not last:
        last = args.until is None or os.path.exists(args.until)
        if os.getppid() != parent:
            sys.exit(1)
        before = files_of(args.out_dir)
        try:
            rows, found = check(connection, args.out_dir, args.hours, args.until is not None)
        except duckdb.Error as error:
            if files_of(args.out_dir) != before:
                # It opens a file once for the footer and once for the rows.
                again, last = again + 1, False
                continue
            rows, found = 0, [f"{type(error).__name__}: {error}"]
        reads += 1
        problems += found
        if args.progress:
            with open(args.progress + ".partial", "w", encoding="utf-8") as file:
                file.write(str(reads))
            os.replace(args.progress + ".partial", args.progress)
        if not last:
            time.sleep(0.02)
    print(json.dumps({"rows": rows, "reads": reads, "again": again, "problems": problems[:20]}))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
