#!/usr/bin/env python3
"""Checks the chart's Grafana dashboards and alerts: form, names of metrics, and every expression in a real Prometheus.

  check.py                                          form and names only
  check.py --prometheus URL --namespace N --job J   and evaluates every expression for this streaming job
           [--batch-job B]                          and for this batch job; without it, its panels may be empty
           [--operator]                             Prometheus scrapes an operator; without it, its panels may be empty
           [--may-be-empty]                         report expressions without data, but do not fail for them

Ends with 0 when all is well, with 1 when something is not; prints one line for each panel and each problem. Names of
metrics must stand in docs/metrics.md or docs/operator-metrics.md.
"""

import argparse
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DASHBOARDS = REPOSITORY / "helm/data-platform/dashboards"
RULES = REPOSITORY / "helm/data-platform/rules"
PAGES = [REPOSITORY / "docs/metrics.md", REPOSITORY / "docs/operator-metrics.md"]

# Of every Prometheus client, on every process.
PROCESS_METRICS = {"process_cpu_seconds_total", "process_start_time_seconds", "process_resident_memory_bytes"}

# Words of PromQL that are neither functions (those have a parenthesis behind them) nor names of metrics.
KEYWORDS = {
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "inf",
    "nan",
}

GRID_WIDTH = 24


@dataclass
class Expression:
    """An expression with the place where it stands."""

    place: str
    text: str


def known_metrics() -> set[str]:
    """Every name that a runner or the operator exposes, with the three series of each histogram."""
    names = set(PROCESS_METRICS)
    for page in PAGES:
        for line in page.read_text().splitlines():
            row = re.match(r"\| `(dataplatform_\w+)` \|[^|]*\| *(.*)", line)
            if row and row[2].startswith("histogram"):
                names |= {f"{row[1]}{suffix}" for suffix in ("_bucket", "_sum", "_count")}
            elif row:
                names.add(row[1])
    return names


def names_in(expression: str) -> set[str]:
    """Names of metrics in an expression: words that are no function, label, string, range or keyword."""
    text = re.sub(r'"(\\.|[^"\\])*"', "", expression)
    text = re.sub(r"\{[^}]*\}", "", text)
    text = re.sub(r"\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", text)
    text = re.sub(r"\boffset\s+\w+", "", text)
    # `[\w:]` in the look-ahead keeps the match from ending inside of a function's name.
    words = re.findall(r"(?<![\w:.$])[a-zA-Z_:][\w:]*(?![\w:]|\s*\()", text)
    return {word for word in words if word.lower() not in KEYWORDS}


def expressions_of(dashboard: dict) -> list[tuple[str, list[Expression]]]:
    """Each panel's title with its expressions; variables and annotations last, with a title of their own."""
    title = dashboard["title"]
    found = [
        (panel["title"], [Expression(f"{title}: {panel['title']}", target["expr"]) for target in panel["targets"]])
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    ]
    for variable in dashboard["templating"]["list"]:
        # label_values(metric{…}, label) is a query of Grafana's own: the metric is what Prometheus is asked for.
        query = re.match(r"label_values\((.*), \w+\)$", variable.get("definition", ""))
        if query:
            found.append((f"variable {variable['name']}", [Expression(f"{title}: ${variable['name']}", query[1])]))
    return found


def annotations_of(dashboard: dict) -> list[Expression]:
    """Expressions that are usually empty: nothing happened."""
    listed = dashboard["annotations"]["list"]
    return [Expression(f"{dashboard['title']}: {annotation['name']}", annotation["expr"]) for annotation in listed]


def form_problems(dashboard: dict) -> list[str]:
    """What Grafana would take, and people would stumble over."""
    title = dashboard["title"]
    problems = []
    taken: dict[tuple[int, int], str] = {}
    identities = set()
    for panel in dashboard["panels"]:
        where = f"{title}: {panel['title']}"
        if panel["id"] in identities:
            problems.append(f"{where}: the id {panel['id']} comes twice")
        identities.add(panel["id"])
        place = panel["gridPos"]
        if place["x"] + place["w"] > GRID_WIDTH:
            problems.append(f"{where}: it is wider than the grid")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if (x, y) in taken:
                    problems.append(f"{where}: it lies on {taken[(x, y)]}")
                taken[(x, y)] = panel["title"]
        if panel["type"] == "row":
            continue
        if len(panel.get("description", "")) < 20:
            problems.append(f"{where}: no description")
        units = [panel["fieldConfig"]["defaults"].get("unit")]
        for override in panel["fieldConfig"]["overrides"]:
            units += [entry["value"] for entry in override["properties"] if entry["id"] == "unit"]
        if not any(units):
            problems.append(f"{where}: no unit")
        for target in panel["targets"]:
            if target["datasource"]["uid"] != "${datasource}":
                problems.append(f"{where}: the data source is fixed")
            if re.search(r'(namespace|job)="[^$"]+"', target["expr"]):
                problems.append(f"{where}: a namespace or job is fixed")
    return sorted(set(problems))


def rules_expressions() -> list[Expression]:
    """The expressions of the alerts. The files are ours and tidy: `expr:` with one line, or with an indented block."""
    found = []
    for file in sorted(RULES.glob("*.yaml")):
        for match in re.finditer(r"- alert: (\w+)\n +expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", file.read_text()):
            found.append(Expression(f"alert {match[1]}", match[2] or match[3]))
    return found


class Prometheus:
    """A Prometheus that is asked for the value of expressions, now."""

    def __init__(self, url: str, values: dict[str, str]):
        self.url = url.rstrip("/")
        self.values = values

    def substitute(self, text: str) -> str:
        """Puts values in the place of Grafana's variables, the longest names first."""
        for name in sorted(self.values, key=len, reverse=True):
            text = text.replace(f"${{{name}}}", self.values[name]).replace(f"${name}", self.values[name])
        return text

    def series(self, expression: str) -> list[dict]:
        """The result of an expression. Raises ValueError when Prometheus refuses it."""
        query = urllib.parse.urlencode({"query": self.substitute(expression)})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error).get("error", str(error))) from error


def labels_by(expression: str) -> set[str]:
    """Labels by which an expression groups or joins: every one of them must be on one of its metrics."""
    found = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression)
    return {label.strip() for group in found for label in group.split(",") if label.strip()}


def check_alert(prometheus: Prometheus, expression: Expression, scraped) -> list[str]:
    """An alert that is silent proves nothing: its metrics must be there, and its labels on them."""
    names = {name for name in names_in(expression.text) if scraped(name)}
    problems = []
    labels = set()
    for name in sorted(names):
        series = prometheus.series(f"{name}")
        if not series:
            problems.append(f"{expression.place}: no series of {name}")
        labels |= {label for one in series for label in one["metric"]}
    missing = labels_by(expression.text) - labels
    if names and missing:
        problems.append(f"{expression.place}: no label {', '.join(sorted(missing))} on {', '.join(sorted(names))}")
    firing = prometheus.series(expression.text)
    print(f"{len(firing):16} series  {expression.place}{' FIRES' if firing else ''}")
    return problems


def check_live(dashboards: list[dict], arguments: argparse.Namespace) -> list[str]:
    """Evaluates every expression. One without data is a problem, and so is one that Prometheus refuses."""
    problems = []

    def scraped(names: str) -> bool:
        needs_operator = "dataplatform_operator" in names and not arguments.operator
        needs_batch = re.search(r"dataplatform_batch_(runs|last|next)", names) and not arguments.batch_job
        return not needs_operator and not needs_batch

    for dashboard in dashboards:
        is_batch = dashboard["uid"].endswith("batch-job")
        job = arguments.batch_job if is_batch else arguments.job
        values = {
            "namespace": arguments.namespace,
            "job": job or "",
            "__rate_interval": "1m",
            "__interval": "30s",
            "__range": "1h",
        }
        prometheus = Prometheus(arguments.prometheus, values)
        for panel, expressions in expressions_of(dashboard):
            counts = []
            for expression in expressions:
                try:
                    counts.append(len(prometheus.series(expression.text)))
                except ValueError as error:
                    problems.append(f"{expression.place}: {error}")
                    continue
                expected = scraped(" ".join(names_in(expression.text))) and not arguments.may_be_empty
                if not counts[-1] and expected:
                    problems.append(f"{expression.place}: no data: {prometheus.substitute(expression.text)}")
            print(f"{'+'.join(map(str, counts)):>16} series  {dashboard['title']}: {panel}")
        for expression in annotations_of(dashboard):
            try:
                prometheus.series(expression.text)
            except ValueError as error:
                problems.append(f"{expression.place}: {error}")
    prometheus = Prometheus(arguments.prometheus, {})
    for expression in rules_expressions():
        try:
            problems += check_alert(prometheus, expression, scraped)
        except ValueError as error:
            problems.append(f"{expression.place}: {error}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", metavar="URL")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--job", default="event-aggregation")
    parser.add_argument("--batch-job")
    parser.add_argument("--operator", action="store_true")
    parser.add_argument("--may-be-empty", action="store_true")
    arguments = parser.parse_args()

    dashboards = [json.loads(file.read_text()) for file in sorted(DASHBOARDS.glob("*.json"))]
    alerts = rules_expressions()
    assert len(dashboards) == 3 and len(alerts) > 10, "the dashboards and alerts are there"
    problems = [problem for dashboard in dashboards for problem in form_problems(dashboard)]

    known = known_metrics()
    checked = list(alerts)
    for dashboard in dashboards:
        checked += annotations_of(dashboard)
        checked += [expression for _, expressions in expressions_of(dashboard) for expression in expressions]
    used = set()
    for expression in checked:
        names = names_in(expression.text)
        used |= names
        problems += [f"{expression.place}: {name} is no metric of ours" for name in sorted(names - known)]
        if not names:
            problems.append(f"{expression.place}: no metric in it")
    print(f"{len(checked)} expressions use {len(used)} of {len(known)} metrics")
    for name in sorted(known - used - PROCESS_METRICS):
        if not name.endswith(("_sum", "_count")):
            print(f"             not used: {name}")

    if arguments.prometheus:
        problems += check_live(dashboards, arguments)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
