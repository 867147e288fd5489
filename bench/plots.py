"""Plots of results as SVG, for bench/report.

Each has its colours for light and for dark surroundings, of which the reader's browser chooses. A mark is
(label, middle, least, greatest); where there is one value the three are the same.
"""

import math
from html import escape

WIDTH = 760
ROW = 22
LEFT = 190
RIGHT = 110
# Name of a class: what it is drawn with, in light and in dark. s0 is ours.
COLOURS = {
    "paper": ("fill", "#ffffff", "#0d1117"),
    "ink": ("fill", "#1f2328", "#e6edf3"),
    "dim": ("fill", "#59636e", "#9198a1"),
    "grid": ("stroke", "#d1d9e0", "#30363d"),
    "axis": ("stroke", "#59636e", "#9198a1"),
    "s0": ("fill", "#0969da", "#4493f8"),
    "s1": ("fill", "#bf8700", "#d29922"),
    "s2": ("fill", "#d4a72c", "#9e6a03"),
    "s3": ("fill", "#bc4c00", "#db6d28"),
    "s4": ("fill", "#8250df", "#ab7df8"),
    "s5": ("fill", "#1a7f37", "#3fb950"),
    "line": ("stroke", "#0969da", "#4493f8"),
}


def number(value, unit=""):
    """As many digits as say something."""
    if abs(value) >= 100 or unit in ("MB", "ms") and abs(value) >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def svg(title, height, parts):
    def rules(at):
        return "".join(f".{name}{{{colour[0]}:{colour[at]}}}" for name, colour in COLOURS.items())

    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
            f"<title>{escape(title)}</title>",
            "<style>text{font:13px system-ui,sans-serif}.title{font-weight:600}.small{font-size:11px}.grid,.axis,.line{fill:none}"
            f"{rules(1)}@media(prefers-color-scheme:dark){{{rules(2)}}}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
            text(16, 24, title, "ink title"),
            *parts,
            "</svg>\n",
        ]
    )


def text(x, y, words, style="ink", anchor="start"):
    # Longer ones would leave the picture.
    words = words if anchor != "end" or len(words) <= 30 else words[:29] + "…"
    return f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1, y1, x2, y2, style):
    return f'<path class="{style}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def bar(begin, end, y, style):
    wide = max(end - begin, 1)
    return f'<rect class="{style}" x="{begin:.1f}" y="{y + 3}" width="{wide:.1f}" height="{ROW - 6}" rx="2"/>'


def ticks(most):
    """Round numbers from 0 to at least `most`, four to eight of them."""
    step = 10 ** math.floor(math.log10(most / 4)) if most > 0 else 1
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10) if most / (step * factor) <= 6)
    return [step * at for at in range(math.ceil(most / step) + 1)]


def bars(title, unit, groups):
    """Bars from 0, below the name of their group; `groups` is [(name, [mark])]."""
    most = max(greatest for _, marks in groups for *_, greatest in marks)
    marked = ticks(most)
    across = (WIDTH - LEFT - RIGHT) / marked[-1]
    labels = list(dict.fromkeys(label for _, marks in groups for label, *_ in marks))
    parts, y = [], 44
    for name, marks in groups:
        parts.append(text(16, y + 15, name, "ink title"))
        y += ROW
        for label, middle, least, greatest in marks:
            end = LEFT + middle * across
            parts += [
                text(LEFT - 8, y + 14, label, "dim", "end"),
                bar(LEFT, end, y, f"s{min(labels.index(label), 5)}"),
                text(max(end, LEFT + greatest * across) + 6, y + 14, number(middle, unit)),
            ]
            if greatest > least:
                parts.append(line(LEFT + least * across, y + ROW / 2, LEFT + greatest * across, y + ROW / 2, "axis"))
            y += ROW
        y += 6
    grid = [line(LEFT + at * across, 44, LEFT + at * across, y, "grid") for at in marked]
    names = [text(LEFT + at * across, y + 16, f"{at:,.10g}", "dim small", "middle") for at in marked]
    return svg(title, y + 28, grid + parts + names)


def ratios(title, marks, left, right):
    """Bars to both sides of 1 on a logarithmic axis; `left` and `right` say what either side means."""
    reach = max(1, math.ceil(max(abs(math.log2(value)) for _, *values in marks for value in values)))
    begin, bottom = LEFT + 30, 44 + 20 + ROW * len(marks) + 4
    half = (WIDTH - begin - 70) / 2
    middle_x = begin + half

    def x(ratio):
        return middle_x + math.log2(ratio) / reach * half

    parts = [
        text(middle_x - 10, 54, "← " + left, "dim small", "end"),
        text(middle_x + 10, 54, right + " →", "dim small"),
    ]
    for at in range(-reach, reach + 1):
        parts.append(line(x(2.0**at), 62, x(2.0**at), bottom, "axis" if at == 0 else "grid"))
        parts.append(text(x(2.0**at), bottom + 16, f"{2.0**at:g}", "dim small", "middle"))
    for at, (label, middle, least, greatest) in enumerate(marks):
        y = 64 + ROW * at
        parts += [
            text(begin - 8, y + 14, label, "dim", "end"),
            bar(*sorted((x(middle), middle_x)), y, "s0" if middle <= 1 else "s3"),
        ]
        if greatest > least:
            parts.append(line(x(least), y + ROW / 2, x(greatest), y + ROW / 2, "axis"))
        outside = (x(greatest) + 6, "start") if middle > 1 else (x(least) - 6, "end")
        parts.append(text(outside[0], y + 14, f"{middle:.2f}", "ink", outside[1]))
    return svg(title, bottom + 28, parts)


def series(title, panels):
    """A small plot for each (name, unit, [(second, value)]), all from 0 up, two beside each other."""
    wide, high = (WIDTH - 60) / 2, 120
    parts = []
    for at, (name, unit, points) in enumerate(panels):
        left, top = 52 + (at % 2) * (wide + 8), 64 + (at // 2) * (high + 58)
        most = ticks(max(max(value for _, value in points), 1e-9))
        end = max(second for second, _ in points) or 1
        across, up = (wide - 52) / end, high / most[-1]
        hours = end >= 5400
        scale, time = (3600, "h") if hours else (60, "min")
        parts.append(text(left, top - 8, f"{name}, {unit}" if unit else name, "ink"))
        for value in most:
            y = top + high - value * up
            parts += [
                line(left, y, left + wide - 52, y, "grid"),
                text(left - 6, y + 4, f"{value:,.10g}", "dim small", "end"),
            ]
        for mark in ticks(end / scale):
            if mark * scale <= end:
                parts.append(
                    text(left + mark * scale * across, top + high + 16, f"{mark:g} {time}", "dim small", "middle")
                )
        path = "L".join(f"{left + second * across:.1f} {top + high - value * up:.1f}" for second, value in points)
        parts.append(f'<path class="line" stroke-width="1.5" d="M{path}"/>')
    rows = (len(panels) + 1) // 2
    return svg(title, 64 + rows * (high + 58) - 20, parts)
