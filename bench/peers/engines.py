"""The engines as processes: one each, and only the one that is measured may run."""
import dataclasses
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys

import avx2

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass
class Setup:
    """Where everything is."""
    intaglio: pathlib.Path
    yardstick: pathlib.Path
    onnxruntime: pathlib.Path  # folder of the package onnxruntime-node
    graphs: pathlib.Path
    isa: str | None = None  # what all are held to
    hide_avx512: pathlib.Path | None = None  # the module of that name

    def environment(self):
        return avx2.environment() if self.isa else dict(os.environ)


@dataclasses.dataclass(frozen=True)
class Case:
    model: str
    threads: int
    batch: int


@dataclasses.dataclass
class Visit:
    """One round of one engine, times of one call (a whole batch)."""
    median_ms: float
    min_ms: float


class EngineError(Exception):
    pass


def last_line(process, what):
    if process.returncode != 0:
        raise EngineError(f"{what}: exit status {process.returncode}: {process.stderr.strip()}")
    return json.loads(process.stdout.splitlines()[-1])


class LivePeer:
    """A peer that loads once, stands still (SIGSTOP) and measures itself when asked."""

    def __init__(self, command, threads, environment):
        # OpenMP's and OpenBLAS's threads, where an engine has them.
        environment = dict(environment, OMP_NUM_THREADS=str(threads),
                           OPENBLAS_NUM_THREADS=str(threads), PYTHONDONTWRITEBYTECODE="1")
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment)
        try:
            ready = self.answer()
        except EngineError:
            self.close()
            raise
        self.load_ms, self.logits = ready["load_ms"], ready["logits"]
        self.bare_mb = ready["bare_mb"]
        self.peak_mb = None
        self.process.send_signal(signal.SIGSTOP)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise EngineError(f"{self.process.args[0]} ended; its message is above")
        return json.loads(line)

    def measure(self, seconds):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"measure {seconds}\n")
        self.process.stdin.flush()
        times = self.answer()["times_ms"]
        self.peak_mb = self.resident_peak() - self.bare_mb
        self.process.send_signal(signal.SIGSTOP)
        return Visit(statistics.median(times), min(times))

    def resident_peak(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(l.split()[1]) / 1e3 for l in status.splitlines() if l.startswith("VmHWM"))

    def close(self):
        self.process.kill()
        self.process.wait()


class Intaglio:
    """This engine, by its own benchmark: a fresh process in every round."""

    logits = None

    def __init__(self, setup, case):
        self.environment = setup.environment()
        self.command = [str(setup.intaglio), "--arch", case.model, "--threads", str(case.threads),
                        "--batch", str(case.batch), "--steps", "none", "--json"]
        self.command += ["--isa", setup.isa] if setup.isa else []
        self.load_ms = self.peak_mb = None

    def measure(self, seconds):
        process = subprocess.run(self.command + ["--seconds", str(seconds)],
                                 capture_output=True, text=True, env=self.environment)
        result = last_line(process, "intaglio-bench")
        self.load_ms, self.peak_mb = result["load_ms"], result["peak_rss_mb"]
        latency = result["latency_ms"]
        return Visit(latency["median"], latency["min"])

    def close(self):
        pass


# key: title; the order of the table's columns.
ENGINES = {
    "intaglio": "Intaglio",
    "ort-f32": "ORT f32",
    "ort-dynamic": "ORT int8 dynamic",
    "ort-qdq": "ORT int8 QDQ",
    "ort-fused": "ORT int8 QAttention",
    "torch": "PyTorch f32",
}


def open_engine(key, setup, case):
    """-> an engine with measure(seconds), load_ms, peak_mb, logits and close()."""
    images = setup.graphs / f"images.{case.batch}.f32"
    if key == "intaglio":
        return Intaglio(setup, case)
    if key == "torch":
        return LivePeer([sys.executable, HERE / "torch_peer.py", case.model, case.threads,
                         case.batch, images], case.threads, setup.environment())
    graph = setup.graphs / f"{case.model}.{key.removeprefix('ort-')}.onnx"
    node = ["node"]
    package = setup.onnxruntime
    if setup.isa:
        node += ["--require", setup.hide_avx512]
        package = avx2.masked_package(package)
    return LivePeer(node + [HERE / "ort_peer.js", package, graph, case.threads, case.batch, images],
                    case.threads, setup.environment())


def measure_machine(setup, threads):
    """-> {"gmac_s": peak of all threads, "round_trip_ns": between two cores}."""
    command = [str(setup.yardstick), str(threads)] + ([setup.isa] if setup.isa else [])
    return last_line(subprocess.run(command, capture_output=True, text=True), "intaglio-yardstick")
