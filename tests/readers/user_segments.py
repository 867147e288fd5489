"""Checks the output of user-segmentation against its inputs, with a computation of its own.

    user_segments.py OUT_DIR EVENTS_DIR SESSIONS_DIR FROM TO

FROM and TO are days such as `2026-01-01`, TO exclusive: the output must hold exactly the users of that time. Prints JSON
{"rows", "segments", "problems"}; ends with 1 if there were problems.
"""

import glob
import json
import math
import os
import sys

import duckdb

COLUMNS = [
    "user_id", "user_segment", "engagement_score", "session_frequency", "content_interest", "device_preference",
    "total_events", "session_count", "total_clicks", "avg_clicks_per_session", "avg_pages_per_session",
    "avg_session_duration_sec", "first_seen", "last_seen",
]


def rows(connection, folder, columns):
    """The rows of a table."""
    if not glob.glob(os.path.join(folder, "**", "*.parquet"), recursive=True):
        return []
    return connection.execute(
        f"SELECT {columns} FROM read_parquet(?, hive_partitioning = true, union_by_name = true)",
        [os.path.join(folder, "**", "*.parquet")],
    ).fetchall()


def limits(value, steps, lowest):
    """The word of the first limit that a value is above."""
    return next((word for limit, word in steps if value > limit), lowest)


def expected(events, sessions):
    """The row of each user."""
    users = {}
    for user, count, event_type, app_type, start, end in events:
        users.setdefault(user, ([], []))[0].append((count, event_type, app_type, start, end))
    for user, clicks, pages, seconds, start, end in sessions:
        users.setdefault(user, ([], []))[1].append((clicks, pages, seconds, start, end))
    found = {}
    for user, (seen, visits) in users.items():
        total, visited = sum(row[0] for row in seen), len(visits)
        clicks = sum(row[0] for row in visits)
        score = (0.5 * total + 0.3 * clicks + 0.2 * visited) / 100
        mean = lambda column: sum(row[column] for row in visits) / visited if visited else None
        found[user] = [
            user,
            limits(score, [(100, "VIP"), (50, "Active"), (20, "Regular")], "Inactive"),
            score,
            limits(visited, [(50, "Very High"), (20, "High"), (5, "Medium")], "Low"),
            limits(len({row[1] for row in seen}), [(4, "Diverse"), (2, "Selected")], "Limited"),
            "Multi-device" if len({row[2] for row in seen}) > 1 else "Single-device",
            total, visited, clicks, mean(0), mean(1), mean(2),
            min([row[3] for row in seen] + [row[3] for row in visits]),
            max([row[4] for row in seen] + [row[4] for row in visits]),
        ]
    return found


def same(one, other):
    """Equal, doubles to a few last digits."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)
    return one == other and isinstance(one, float) == isinstance(other, float)


def main():
    out_dir, events_dir, sessions_dir, start, end = sys.argv[1:]
    connection = duckdb.connect()
    micros = lambda day: connection.execute("SELECT epoch_us(CAST(? AS TIMESTAMP))", [day]).fetchone()[0]
    start, end = micros(start), micros(end)
    events = rows(
        connection, events_dir,
        "user_id, event_count, event_type, app_type, epoch_us(window_start), epoch_us(window_end)",
    )
    sessions = rows(
        connection, sessions_dir,
        "user_id, total_clicks, unique_pages, session_duration_sec, epoch_us(session_start), epoch_us(session_end)",
    )
    within = lambda table: [row for row in table if start <= row[4] < end]
    wanted = expected(within(events), within(sessions))
    listed = ", ".join(f"epoch_us({name})" if name.endswith("_seen") else name for name in COLUMNS)
    found = rows(connection, out_dir, f"{listed}, epoch_us(processing_time)")
    problems = []
    names = [row[0] for row in found]
    for name, some in (("missing", set(wanted) - set(names)), ("too much", set(names) - set(wanted))):
        if some:
            problems.append(f"users {name}: {sorted(some)[:3]}")
    if len(set(names)) != len(names):
        problems.append("a user stands twice")
    for row in found:
        different = [
            (column, one, other)
            for column, one, other in zip(COLUMNS, row, wanted.get(row[0], row))
            if not same(one, other)
        ]
        if different:
            problems.append(f"{row[0]}: {different}")
    if len({row[-1] for row in found}) > 1 or any(row[-1] is None for row in found):
        problems.append("not from one run")
    segments = {segment: sum(row[1] == segment for row in found) for segment in sorted({row[1] for row in found})}
    print(json.dumps({"rows": len(found), "segments": segments, "problems": problems[:20]}))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
