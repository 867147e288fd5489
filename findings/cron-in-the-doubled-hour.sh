#!/usr/bin/env bash
# croniter 7.0.0, cronsim 2.8 (Python): a schedule in the hour that comes twice, and in the one that does not come.
#
# `30 2 * * *` in Berlin. On 25 October 2026 half past two comes twice: croniter gives both, cronsim the first. On 29 March the hour from
# two to three does not come: both give three o'clock instead. `*/30 2 * * *` on that day: croniter gives three o'clock once for the two
# that are missing, cronsim nothing. A daily job has two runs, or one; a list of missed runs made by the other library differs.
# What to do: schedules in UTC, or outside of these hours; a job that replaces its interval does no harm when it runs twice.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check croniter==7.0.0 cronsim==2.8 tzdata
venv/bin/python - <<'PYTHON'
import datetime, zoneinfo
import croniter, cronsim

zone = zoneinfo.ZoneInfo("Europe/Berlin")

def runs(library, expression, day):
    start = datetime.datetime(2026, *day, tzinfo=zone)
    end = datetime.datetime.combine(start.date() + datetime.timedelta(days=1), datetime.time(), zone)
    if library == "croniter":
        following = iter(lambda: schedule.get_next(datetime.datetime), None)
        schedule = croniter.croniter(expression, start)
    else:
        following = cronsim.CronSim(expression, start)
    times = []
    for time in following:
        if time.timestamp() >= end.timestamp():
            return times
        times.append(time.astimezone(datetime.UTC).strftime("%H:%MZ"))

seen = {}
for expression in ["30 2 * * *", "*/30 2 * * *"]:
    for day in [(3, 29), (10, 25)]:
        for library in ["croniter", "cronsim"]:
            seen[expression, day, library] = runs(library, expression, day)
            print(f"{expression} on 2026-{day[0]:02}-{day[1]}, {library}: {seen[expression, day, library]}")
assert seen["30 2 * * *", (10, 25), "croniter"] == ["00:30Z", "01:30Z"], "it has changed"
assert seen["30 2 * * *", (10, 25), "cronsim"] == ["00:30Z"], "it has changed"
assert seen["30 2 * * *", (3, 29), "croniter"] == seen["30 2 * * *", (3, 29), "cronsim"] == ["01:00Z"], "it has changed"
assert seen["*/30 2 * * *", (3, 29), "croniter"] == ["01:00Z"] and seen["*/30 2 * * *", (3, 29), "cronsim"] == [], "it has changed"
PYTHON
