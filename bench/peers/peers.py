"""Runs engines side by side on this machine. run.sh prepares what this needs.

Every case (model, threads, batch) is measured in rounds; in a round every engine has its turn while
the others stand still, right after the peak of the machine was measured.
"""
import argparse
import importlib.metadata
import json
import math
import os
import pathlib
import statistics
import sys
import time

import graphs
import models
import report
from engines import ENGINES, Case, EngineError, Setup, measure_machine, open_engine


def cpu_times():
    fields = [int(f) for f in open("/proc/stat").readline().split()[1:9]]
    return sum(fields), fields[3] + fields[4]


def wait_until_quiet(limit):
    """Waits until other processes leave the CPUs alone, `limit` seconds at most. -> busy share."""
    end = time.monotonic() + limit
    while True:
        total, idle = cpu_times()
        time.sleep(0.15)
        total_then, idle_then = cpu_times()
        busy = 1 - (idle_then - idle) / max(1, total_then - total)
        if busy < 0.08 or time.monotonic() >= end:
            return busy


def describe(setup):
    """The machine and the peers' versions, in a line."""
    cpu = next(l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name"))
    package = json.loads((setup.onnxruntime / "package.json").read_text())
    held = f", all held to {setup.isa}" if setup.isa else ""
    return (f"{cpu}, {len(os.sched_getaffinity(0))} CPUs{held}, ONNX Runtime {package['version']}, "
            f"PyTorch {importlib.metadata.version('torch')}, {time.strftime('%Y-%m-%d')}")


def cosine(a, b):
    norm = math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b)) / norm


def check_logits(engines):
    """All engines with the same weights give about the same logits, or a graph is wrong."""
    known = {k: e.logits for k, e in engines.items() if e.logits is not None}
    reference = known.get("ort-f32") or known.get("torch")
    for key, logits in known.items():
        if reference is not None and not cosine(logits, reference) > 0.98:
            raise EngineError(f"{key}: its logits are not those of the f32 model")


def measure_case(case, setup, options):
    """-> one dict per engine."""
    engines, rows = {}, {}
    try:
        for key in options.engines:
            if key != "ort-fused" or graphs.has_variant(case.model, "fused"):
                engines[key] = open_engine(key, setup, case)
                rows[key] = []
        check_logits(engines)
        machine, busy = [], []
        for number in range(options.rounds):
            order = list(engines)
            for key in order[number % len(order):] + order[:number % len(order)]:
                busy.append(wait_until_quiet(options.quiet_seconds))
                machine.append(measure_machine(setup, case.threads))
                rows[key].append(engines[key].measure(options.seconds))
        return [summarize(case, key, engines[key], rows[key], machine, busy) for key in engines]
    finally:
        for engine in engines.values():
            engine.close()


def summarize(case, key, engine, visits, machine, busy):
    peak = statistics.median(m["gmac_s"] for m in machine)
    floor = models.macs(case.model) / peak * 1e-6
    medians = [v.median_ms / case.batch for v in visits]
    fastest = min(v.min_ms for v in visits) / case.batch
    return {
        "model": case.model, "threads": case.threads, "batch": case.batch, "engine": key,
        "macs": models.macs(case.model), "peak_gmac_s": peak, "floor_ms": floor,
        "round_trip_ns": max(m["round_trip_ns"] for m in machine),
        "busy": statistics.median(busy),
        "ms_per_image": {"median": statistics.median(medians), "best_round": min(medians),
                         "min": fastest},
        "multiple": statistics.median(medians) / floor, "best_multiple": fastest / floor,
        "load_ms": engine.load_ms, "peak_mb": engine.peak_mb,
    }


def parse_options():
    def names(known):
        def parse(text):
            chosen = list(known) if text == "all" else text.split(",")
            unknown = [n for n in chosen if n not in known]
            if unknown:
                raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
            return chosen
        return parse

    def numbers(text):
        values = [int(n) for n in text.split(",")]
        if min(values) < 1:
            raise argparse.ArgumentTypeError("numbers from 1 on")
        return values

    parser = argparse.ArgumentParser(prog="bench/peers/run.sh", description=__doc__.split(". ")[0] + ".")
    parser.add_argument("--models", type=names(models.TITLES), default=["deit_tiny", "deit_small"],
                        help=f"all, or some of {', '.join(models.TITLES)}")
    parser.add_argument("--engines", type=names(ENGINES),
                        default=[e for e in ENGINES if e != "torch"],
                        help=f"all, or some of {', '.join(ENGINES)} (default: all but torch)")
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--batch", type=numbers, default=[1, 8])
    parser.add_argument("--isa", choices=["avx2"], help="what all engines are held to; not PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn")
    parser.add_argument("--quiet-seconds", type=float, default=3.0,
                        help="how long a turn waits for other processes to be idle")
    parser.add_argument("--json", action="store_true", help="one line of JSON per row")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--yardstick", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--hide-avx512", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--intaglio", type=pathlib.Path, required=True,
                        help="the intaglio-bench to measure (default: the one that run.sh builds)")
    options = parser.parse_args()
    if options.isa and "torch" in options.engines:
        parser.error("--isa: PyTorch cannot be held to it")
    return options


def main():
    options = parse_options()
    setup = Setup(options.intaglio, options.yardstick,
                  options.folder / "node_modules" / "onnxruntime-node", options.folder,
                  options.isa, options.hide_avx512)
    for batch in options.batch:
        models.random_images(batch).tofile(options.folder / f"images.{batch}.f32")
    rows = []
    for model in options.models:
        graphs.write_all(options.folder, model)
        for threads in options.threads:
            for batch in options.batch:
                case = Case(model, threads, batch)
                print(f"{models.TITLES[model]}, threads {threads}, batch {batch}", file=sys.stderr)
                rows += measure_case(case, setup, options)
    if options.json:
        for row in rows:
            print(json.dumps({**row, "machine": describe(setup)}))
    else:
        print(describe(setup), report.text(rows), sep="\n\n")


if __name__ == "__main__":
    try:
        main()
    except (EngineError, OSError) as error:
        sys.exit(f"peers: {error}")
