#!/usr/bin/env python3
"""Draws where the steps of a model lie below the peak of the CPU, as an SVG.

usage: roofline.py ROWS.json [--row N] [-o roofline.svg]      ROWS.json from intaglio-bench --json

Each dot is a kind of step: multiply-accumulates per byte to the right, GMAC/s upwards, both
logarithmic; its area is its share of the time. The roof is the peak that the same run measured.
"""

import argparse
import json
import math
import sys
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 900, 490
LEFT, RIGHT, TOP, BOTTOM = 70, 560, 70, 400  # of the plot; labels stand to its right
LABEL_X, LABEL_STEP = 590, 19

# Plain colours first: not every viewer knows CSS variables.
STYLE = """
  text { font: 12.5px system-ui, "DejaVu Sans", sans-serif; fill: #1c2024; }
  .page { fill: #ffffff; }
  .title { font-size: 16px; font-weight: 600; }
  .quiet { fill: #60646c; font-size: 11.5px; }
  .grid { stroke: #e3e6ea; }
  .leader { stroke: #9aa0a8; stroke-width: .7; fill: none; }
  .roof { stroke: #b4400f; stroke-width: 2; }
  .roof-text { fill: #b4400f; }
  .dot { fill: #1769aa; fill-opacity: .7; stroke: #1769aa; }
  @media (prefers-color-scheme: dark) {
    text { fill: #eceef0; }
    .page { fill: #14171a; }
    .quiet { fill: #a0a6ad; }
    .grid { stroke: #2b3036; }
    .leader { stroke: #6a7078; }
    .roof { stroke: #f0915c; }
    .roof-text { fill: #f0915c; }
    .dot { fill: #62b0f0; stroke: #62b0f0; }
  }
"""


class Axis:
    """Logarithmic, over whole steps of 1, 2, 5 around the values."""

    def __init__(self, values, first, last):
        ticks = [m * 10.0**e for e in range(-4, 9) for m in (1, 2, 5)]
        low = max(tick for tick in ticks if tick <= min(values) * 0.95)
        high = min(tick for tick in ticks if tick >= max(values) * 1.05)
        self.ticks = [tick for tick in ticks if low <= tick <= high]
        self.low, self.scale = math.log(low), (last - first) / (math.log(high) - math.log(low))
        self.first = first

    def at(self, value):
        return self.first + (math.log(value) - self.low) * self.scale


def spread(wanted, step, low, high):
    """Positions nearest the wanted ones (ascending) that are at least `step` apart."""
    placed = []
    for at in wanted:
        placed.append(max(at, placed[-1] + step if placed else low))
    ceiling = high
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - step
    return placed


def text(x, y, words, css="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'


def line(css, *points):
    return f'<polyline class="{css}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def grid(x_axis, y_axis):
    parts = []
    for tick in x_axis.ticks:
        x = x_axis.at(tick)
        parts += [line("grid", (x, TOP), (x, BOTTOM)), text(x, BOTTOM + 17, f"{tick:g}", "quiet", "middle")]
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        parts += [line("grid", (LEFT, y), (RIGHT, y)), text(LEFT - 7, y + 4, f"{tick:g}", "quiet", "end")]
    parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 36, "multiply-accumulates per byte", "quiet", "middle"))
    parts.append(text(LEFT - 7, TOP - 14, "GMAC/s", "quiet", "end"))
    return parts


def dots(steps, x_axis, y_axis):
    steps = sorted(steps, key=lambda step: -step["gmac_s"])
    labels = spread([y_axis.at(step["gmac_s"]) for step in steps], LABEL_STEP, TOP, BOTTOM)
    leaders, circles, words = [], [], []
    for step, label in zip(steps, labels):
        x, y = x_axis.at(step["macs"] / step["bytes"]), y_axis.at(step["gmac_s"])
        name = step["name"].removeprefix("blocks.*.")
        leaders.append(line("leader", (x, y), (RIGHT + 8, label), (LABEL_X - 5, label)))
        circles.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{3 + 22 * math.sqrt(step["share"]):.1f}"/>')
        words.append(text(LABEL_X, label + 4, f"{name}: {100 * step['of_peak']:.0f} % of peak, "
                                              f"{100 * step['share']:.1f} % of time"))
    return leaders + circles + words


def draw(row):
    steps = [step for step in row["steps"] if step["macs"] > 0 and step["gmac_s"] > 0]
    if not steps:
        raise ValueError("the row has no steps; run intaglio-bench without --steps none")
    roof = row["peak_gmac_s"] * row["step_threads"]
    x_axis = Axis([step["macs"] / step["bytes"] for step in steps], LEFT, RIGHT)
    y_axis = Axis([roof] + [step["gmac_s"] for step in steps], BOTTOM, TOP)
    title = f"{row['model']}, {row['isa']}, threads {row['threads']}, batch {row['batch']}"
    figures = (f"{row['latency_ms']['median']:.2f} ms per call, {row['ratio']:.2f} times the floor; "
               f"{row['cpu']}, {row['date'][:10]}, commit {row['commit']}")
    others = sorted((s for s in row["steps"] if s["macs"] == 0), key=lambda s: -s["share"])
    rest = [f"{s['name'].removeprefix('blocks.*.')} {100 * s['share']:.1f} %" for s in others if s["share"] >= 0.001]
    y = y_axis.at(roof)
    parts = [text(LEFT, 26, title, "title"), text(LEFT, 45, figures, "quiet"), *grid(x_axis, y_axis),
             line("roof", (LEFT, y), (RIGHT, y)),
             text(LEFT + 6, y + 16, f"peak {roof:.0f} GMAC/s, measured", "roof-text"), *dots(steps, x_axis, y_axis),
             text(LEFT, BOTTOM + 66, "Time without multiply-accumulates: " + ", ".join(rest), "quiet")]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" role="img">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
            f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>\n'
            + "\n".join(parts) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description="Draws the steps of a model below the peak, as an SVG.")
    parser.add_argument("rows", type=Path, help="output of intaglio-bench --json")
    parser.add_argument("--row", type=int, default=1, help="which line of it, from 1 (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, help="file to write; default: standard output")
    arguments = parser.parse_args()
    try:
        rows = [json.loads(row) for row in arguments.rows.read_text(encoding="utf-8").splitlines()]
        if not 1 <= arguments.row <= len(rows):
            parser.error(f"--row {arguments.row}: {arguments.rows} has {len(rows)}")
        svg = draw(rows[arguments.row - 1])
        if arguments.output:
            arguments.output.write_text(svg, encoding="utf-8")
        else:
            sys.stdout.write(svg)
    except OSError as error:
        print(f"roofline.py: {error}", file=sys.stderr)
        return 3
    except (ValueError, KeyError) as error:
        print(f"roofline.py: {arguments.rows}: {error}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
