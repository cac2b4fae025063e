"""Rows of measurements as text."""
import models
from engines import ENGINES

INT8_PEERS = ("ort-dynamic", "ort-qdq", "ort-fused")


def by_case(rows):
    """-> {(model, threads, batch): {engine: row}}, in the order of measurement."""
    cases = {}
    for row in rows:
        key = (row["model"], row["threads"], row["batch"])
        cases.setdefault(key, {})[row["engine"]] = row
    return cases


def table(head, lines):
    widths = [max(len(line[i]) for line in [head] + lines) for i in range(len(head))]
    def aligned(line):
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))]
        return "  ".join(cells).rstrip()
    return "\n".join(aligned(line) for line in [head] + lines)


def number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def advantage(by_engine, field):
    """How many times longer the best int8 peer takes."""
    int8 = [by_engine[e][field] for e in INT8_PEERS if e in by_engine]
    ours = by_engine.get("intaglio")
    return f"{min(int8) / ours[field]:.2f}x" if int8 and ours else "-"


def multiples(cases, engines):
    lines = []
    for (model, threads, batch), by_engine in cases.items():
        any_row = next(iter(by_engine.values()))
        line = [models.TITLES[model], str(threads), str(batch), number(any_row["macs"] / 1e9),
                number(any_row["peak_gmac_s"], 0), number(any_row["floor_ms"])]
        for engine in engines:
            row = by_engine.get(engine)
            line.append(f"{row['multiple']:.2f} ({row['best_multiple']:.2f})" if row else "-")
        line += [advantage(by_engine, "multiple"), advantage(by_engine, "best_multiple")]
        lines.append(line)
    head = ["model", "threads", "batch", "GMAC", "peak GMAC/s", "floor ms"]
    return table(head + [ENGINES[e] for e in engines] + ["best ORT int8 / Intaglio", "by fastest"], lines)


def costs(cases, engines):
    """Load time and memory of each model's first case."""
    lines, seen = [], set()
    for (model, threads, batch), by_engine in cases.items():
        if model in seen:
            continue
        seen.add(model)
        cells = [f"{number(by_engine[e]['load_ms'], 0)} / {number(by_engine[e]['peak_mb'], 0)}"
                 if e in by_engine else "-" for e in engines]
        lines.append([models.TITLES[model], str(threads), str(batch)] + cells)
    return table(["model", "threads", "batch"] + [ENGINES[e] for e in engines], lines)


def text(rows):
    cases = by_case(rows)
    engines = [e for e in ENGINES if any(e in by_engine for by_engine in cases.values())]
    parts = ["Time per image in multiples of the floor: median of the rounds (fastest call)",
             multiples(cases, engines), "",
             "Load, ms / peak memory, MB (of ORT and PyTorch without the bare interpreter)",
             costs(cases, engines)]
    trips = [row["round_trip_ns"] for row in rows if row["threads"] > 1]
    if trips:
        far = max(trips) > 160
        parts += ["", f"Core to core and back: {min(trips):.0f} to {max(trips):.0f} ns"
                  + ("; above 160 the two sit on two dies, and two threads pay for it" if far else "")]
    busy = max(row["busy"] for row in rows)
    if busy > 0.08:
        parts += ["", f"Other processes were running: {100 * busy:.0f} % of the CPUs"]
    return "\n".join(parts)
