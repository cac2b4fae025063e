"""PyTorch as a process that measures itself: torch_peer.py MODEL THREADS BATCH INPUT

Says when it is ready, then answers every line "measure SECONDS" on stdin; one line of JSON each.
"""
import json
import sys
import time


def resident_megabytes():
    with open("/proc/self/status") as status:
        return next(int(l.split()[1]) / 1e3 for l in status if l.startswith("VmRSS"))


def main(name, threads, batch, path):
    bare_mb = resident_megabytes()
    import numpy as np
    import torch

    import models
    from torch_ops import TorchOps

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    images = torch.from_numpy(np.fromfile(path, np.float32).reshape(batch, 3, 224, 224))
    ops = TorchOps(models.Weights())

    def run():
        with torch.inference_mode():
            return models.forward(ops, name, images)

    print(json.dumps({"load_ms": None, "bare_mb": bare_mb, "logits": run()[0].tolist()}), flush=True)
    for line in sys.stdin:
        run()
        times = []
        end = time.perf_counter() + float(line.split()[1])
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps({"times_ms": times}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
