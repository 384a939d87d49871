"""Plots as SVG: both axes logarithmic, so that a cost that grows straight is a straight line."""

import math
from html import escape

# With a background of its own, it is readable on light and dark pages.
BACKGROUND, INK, GRID = "#ffffff", "#24292f", "#d8dee4"
COLOURS = {
    "ferrosock": "#c2410c",
    "cowboy": "#1d4ed8",
    "tungstenite": "#57606a",
    "epoll": "#9aa4ae",
}
WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 84, 60


class Scale:
    """From a value to its place, between `start` and `end`."""

    def __init__(self, low, high, start, end):
        self.low = math.log10(low)
        # One value alone has no range.
        self.per_decade = (end - start) / ((math.log10(high) - self.low) or 1)
        self.start = start

    def __call__(self, value):
        return self.start + (math.log10(value) - self.low) * self.per_decade


def svg(title, x_label, y_label, lines):
    """`lines`: the key of a colour, a name, and points (x, y); values are above 0."""
    xs = sorted({x for _key, _name, points in lines for x, _y in points})
    ys = [y for _key, _name, points in lines for _x, y in points]
    decades = range(math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys))) + 1)
    across = Scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
    up = Scale(10.0 ** decades[0], 10.0 ** decades[-1], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{BACKGROUND}"/>',
        text(LEFT, 26, title, 'font-size="16" font-weight="bold"'),
        *(rule(across(x), TOP, across(x), HEIGHT - BOTTOM) for x in xs),
        *(text(across(x), HEIGHT - BOTTOM + 18, short(x), 'text-anchor="middle"') for x in xs),
        *(rule(LEFT, up(10.0**n), WIDTH - RIGHT, up(10.0**n)) for n in decades),
        *(text(LEFT - 8, up(10.0**n) + 4, f"{10.0**n:,g}", 'text-anchor="end"') for n in decades),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label, 'text-anchor="middle"'),
        text(-HEIGHT / 2, 18, y_label, 'text-anchor="middle" transform="rotate(-90)"'),
    ]
    for index, (key, name, points) in enumerate(lines):
        parts += curve(COLOURS[key], [(across(x), up(y)) for x, y in points])
        left = LEFT + index * 165
        parts.append(f'<rect x="{left}" y="46" width="16" height="4" fill="{COLOURS[key]}"/>')
        parts.append(text(left + 22, 53, name))
    return "\n".join([*parts, "</svg>", ""])


def curve(colour, places):
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, y in places:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'


def rule(x1, y1, x2, y2):
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{GRID}"/>'


def text(x, y, content, attributes=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(content)}</text>'


def short(number):
    """16384 as 16Ki, 10000 as 10,000."""
    for exponent, suffix in ((20, "Mi"), (10, "Ki")):
        if number >= 1 << exponent and number % (1 << exponent) == 0:
            return f"{number >> exponent:,}{suffix}"
    return f"{number:,}"
