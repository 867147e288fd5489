#!/usr/bin/env bash
# croniter 7.0.0, cronsim 2.8, APScheduler 3.11.3 (Python): one cron expression, three calendars.
#
# `0 0 */1 * 1` restricts the day of the week and writes the day of the month as a step of a star. Vixie cron, and Kubernetes
# with it, take a field that begins with a star as no restriction: Mondays. cronsim does. croniter runs it every day, since it
# reads */1 as 1-31 and either field then suffices. APScheduler counts the days of the week from Monday = 0, also in
# from_crontab(): Tuesdays.
# What to do: write names (MON), write *, and try a schedule in the scheduler that will run it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check croniter==7.0.0 cronsim==2.8 APScheduler==3.11.3
venv/bin/python - <<'PYTHON'
from datetime import datetime, timezone
from apscheduler.triggers.cron import CronTrigger
from croniter import croniter
from cronsim import CronSim

expression, begin = "0 0 */1 * 1", datetime(2026, 2, 1, tzinfo=timezone.utc)
by_croniter, by_cronsim = croniter(expression, begin), CronSim(expression, begin)
trigger = CronTrigger.from_crontab(expression, timezone=timezone.utc)

def by_apscheduler():
    now = begin
    while True:
        now = trigger.get_next_fire_time(None, now)
        yield now
        now = now.replace(minute=1)

runs = {
    "croniter": [by_croniter.get_next(datetime) for _ in range(3)],
    "cronsim": [next(by_cronsim) for _ in range(3)],
    "APScheduler": [time for time, _ in zip(by_apscheduler(), range(3))],
}
runs = {name: [time.strftime("%d %a") for time in times] for name, times in runs.items()}
for name, times in runs.items():
    print(f"{name}: {', '.join(times)}")
assert runs == {
    "croniter": ["02 Mon", "03 Tue", "04 Wed"],
    "cronsim": ["02 Mon", "09 Mon", "16 Mon"],
    "APScheduler": ["03 Tue", "10 Tue", "17 Tue"],
}, "it has changed"
PYTHON
