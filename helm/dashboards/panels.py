"""Building blocks of Grafana dashboards: variables, rows and a few kinds of panel, with what all of ours share."""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED, BLUE = "green", "orange", "red", "blue"

# Grafana's grid is 24 columns wide.
WIDTH = 24


def query(expression: str, legend: str = "", *, name: str = "A", table: bool = False) -> dict:
    """One expression. A legend in Grafana's braces: {{job}}."""
    target = {"datasource": DATASOURCE, "expr": expression, "legendFormat": legend or "__auto", "refId": name}
    if table:
        target |= {"format": "table", "instant": True, "range": False}
    return target


def queries(*pairs: tuple[str, str]) -> list[dict]:
    """Several expressions, each with its legend."""
    return [query(expression, legend, name=chr(ord("A") + index)) for index, (expression, legend) in enumerate(pairs)]


def quantile(share: float, metric: str, selector: str = "") -> str:
    """The value below which this share of a histogram's observations lies."""
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{selector}[$__rate_interval])))"


def steps(*pairs: tuple[str, float | None]) -> dict:
    """Colours, each from a value on; the first one from None."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in pairs]}


def panel(kind: str, title: str, description: str, targets: list[dict], size: tuple[int, int], **more) -> dict:
    width, height = size
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": targets,
    } | more


def stat(title: str, description: str, expression: str, unit: str, thresholds: dict, *, width: int = 4, **more) -> dict:
    """One number, coloured by thresholds."""
    mappings = more.get("mappings", [])
    return panel(
        "stat",
        title,
        description,
        [query(expression) | {"instant": True, "range": False}],
        (width, 4),
        fieldConfig={
            "defaults": {
                "unit": unit,
                "decimals": more.get("decimals", 0),
                "color": {"mode": "thresholds"},
                "thresholds": thresholds,
                "mappings": mappings,
                "noValue": more.get("no_value", "-"),
            },
            "overrides": [],
        },
        options={
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "center",
            "textMode": "value",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )


def words(**of_values: tuple[str, str]) -> list[dict]:
    """Words in place of numbers: words(v1=("ready", GREEN))."""
    options = {
        key.removeprefix("v"): {"text": text, "color": color, "index": index}
        for index, (key, (text, color)) in enumerate(of_values.items())
    }
    return [{"type": "value", "options": options}]


def graph(title: str, description: str, targets: list[dict], unit: str, *, width: int = 12, **more) -> dict:
    """Lines over time. `stacked`: areas on top of each other; `bars`: bars; `dashed`: legends of limits."""
    stacked = more.get("stacked", False)
    bars = more.get("bars", False)
    overrides = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [
                {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
                {"id": "custom.fillOpacity", "value": 0},
                {"id": "custom.stacking", "value": {"mode": "none"}},
                {"id": "color", "value": {"mode": "fixed", "fixedColor": RED}},
            ],
        }
        for name in more.get("dashed", [])
    ]
    return panel(
        "timeseries",
        title,
        description,
        targets,
        (width, 8),
        fieldConfig={
            "defaults": {
                "unit": unit,
                "min": more.get("minimum", 0),
                "color": {"mode": "palette-classic"},
                "custom": {
                    "drawStyle": "bars" if bars else "line",
                    "lineWidth": 1 if bars else 2,
                    "fillOpacity": 70 if bars else 25 if stacked else 8,
                    "showPoints": "never",
                    "spanNulls": False,
                    "stacking": {"mode": "normal" if stacked or bars else "none", "group": "A"},
                },
            },
            "overrides": overrides,
        },
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def bars(title: str, description: str, targets: list[dict], unit: str, thresholds: dict, *, width: int = 12) -> dict:
    """A horizontal bar for each series, now."""
    return panel(
        "bargauge",
        title,
        description,
        [target | {"instant": True, "range": False} for target in targets],
        (width, 8),
        fieldConfig={
            "defaults": {"unit": unit, "min": 0, "color": {"mode": "thresholds"}, "thresholds": thresholds},
            "overrides": [],
        },
        options={
            "displayMode": "basic",
            "orientation": "horizontal",
            "showUnfilled": True,
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )


def table(title: str, description: str, columns: list[dict], *, link: str, height: int = 9) -> dict:
    """One line for each job. A column: name, expression, unit, and perhaps thresholds or mappings. The name of the job
    leads to its dashboard, whose uid is `link`."""
    targets, overrides = [], []
    names = {"namespace": "Namespace", "job": "Job"}
    choices = "var-datasource=${datasource}&var-namespace=${__data.fields.Namespace}&var-job=${__data.fields.Job}"
    url = f"/d/{link}?{choices}"
    overrides.append(
        {
            "matcher": {"id": "byName", "options": "Job"},
            "properties": [{"id": "links", "value": [{"title": "Dashboard of this job", "url": url}]}],
        }
    )
    for index, column in enumerate(columns):
        name = chr(ord("A") + index)
        targets.append(query(column["expression"], name=name, table=True))
        names[f"Value #{name}"] = column["name"]
        properties = [{"id": "unit", "value": column["unit"]}, {"id": "decimals", "value": column.get("decimals", 0)}]
        if "thresholds" in column:
            properties.append({"id": "thresholds", "value": column["thresholds"]})
            properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
        if "mappings" in column:
            properties.append({"id": "mappings", "value": column["mappings"]})
        overrides.append({"matcher": {"id": "byName", "options": column["name"]}, "properties": properties})
    return panel(
        "table",
        title,
        description,
        targets,
        (WIDTH, height),
        fieldConfig={"defaults": {"custom": {"align": "auto", "filterable": True}}, "overrides": overrides},
        options={"showHeader": True, "footer": {"show": False}},
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "renameByName": names,
                    "indexByName": {"namespace": 0, "job": 1}
                    | {f"Value #{chr(65 + i)}": i + 2 for i in range(len(columns))},
                },
            },
        ],
    )


def variable(name: str, label: str, query_text: str, *, many: bool = False) -> dict:
    """A choice that Prometheus gives. `many`: several or all, and all at first."""
    result = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query_text,
        "query": {"query": query_text, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": many,
        "includeAll": many,
    }
    return result | ({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if many else {})


def dashboard(
    uid: str, title: str, description: str, variables: list[dict], rows: list[tuple[str, list[dict]]], **more
) -> dict:
    """Lays the panels of each row out from left to right, and breaks lines where one is full."""
    panels, y = [], 0
    for heading, content in rows:
        panels.append(
            {
                "type": "row",
                "title": heading,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
                "panels": [],
            }
        )
        y += 1
        x = line = 0
        for item in content:
            size = item["gridPos"]
            if x + size["w"] > WIDTH:
                x, y, line = 0, y + line, 0
            item["gridPos"] = {"x": x, "y": y} | size
            x += size["w"]
            line = max(line, size["h"])
            panels.append(item)
        y += line
    for number, item in enumerate(panels, start=1):
        item["id"] = number
    datasource = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "current": {},
    }
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["data-platform"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": f"now-{more.get('time', '1h')}", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [datasource, *variables]},
        "annotations": {"list": more.get("annotations", [])},
        # The other dashboards, with the same choices.
        "links": [
            {
                "title": "data-platform",
                "type": "dashboards",
                "tags": ["data-platform"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": panels,
    }
