#!/usr/bin/python3
"""Trains the embedded model on drawn characters and writes its float weights, with held-out accuracy, to a safetensors file.

Needs python3-torch (Debian 12). Training multiplies matrices in bfloat16, which PyTorch hands to oneDNN; weights are float32.
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model import CONFIG, VisionTransformer, accuracy, save_safetensors


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Other colours, same character: channels permuted, half of the images inverted. [batch, 32, 32, 3] u8."""
    order = torch.rand(len(images), 1, 1, 3, generator=generator).argsort(-1).expand_as(images)
    invert = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = images.gather(-1, order)
    return torch.where(invert, 255 - images, images)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first 4 % of the steps, then half a cosine to 1 % of the peak."""
    warm_up = steps // 25 + 1
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))))


def train(model: VisionTransformer, data: Path, args: argparse.Namespace) -> VisionTransformer:
    """Trains in place; returns the exponential moving average of the weights."""
    split = np.load(data)
    images, labels = torch.from_numpy(split["images"]), torch.from_numpy(split["labels"])
    generator = torch.Generator().manual_seed(args.seed)
    decayed = [p for p in model.parameters() if p.dim() in (2, 4)]  # not biases, norms, embeddings
    others = [p for p in model.parameters() if p.dim() not in (2, 4)]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}], weight_decay=0.05)
    average = copy.deepcopy(model)
    steps, step, start = args.epochs * (len(images) // args.batch), 0, time.time()
    model.train()
    for epoch in range(args.stop_after):
        for chosen in torch.randperm(len(images), generator=generator).split(args.batch)[: len(images) // args.batch]:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, args.lr)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(augment(images[chosen], generator))
            loss = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                decay = min(0.999, step / (step + 10))
                for mean, value in zip(average.parameters(), model.parameters()):
                    mean.lerp_(value, 1 - decay)
            step += 1
            if step % 200 == 0:
                right = (logits.argmax(1) == labels[chosen]).float().mean()
                print(f"step {step}/{steps} loss {loss:.4f} batch accuracy {right:.3f} {time.time() - start:.0f} s", flush=True)
        save_safetensors(args.out, average.state_dict(), {"config": json.dumps(CONFIG), "epoch": str(epoch + 1)})
    return average


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded model on images drawn by draw.py.")
    parser.add_argument("--train", type=Path, required=True, help=".npz of the split train")
    parser.add_argument("--held-out", type=Path, nargs="+", required=True, help=".npz files of images to check with")
    parser.add_argument("--out", type=Path, required=True, help="float weights, safetensors; written after every epoch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=5, help="length of the learning-rate schedule")
    parser.add_argument("--stop-after", type=int, default=4, help="end after this many epochs of the schedule")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    start = time.time()
    average = train(VisionTransformer(), args.train, args)
    metadata = {"config": json.dumps(CONFIG), "training_seed": str(args.seed), "training_seconds": f"{time.time() - start:.0f}"}
    split = np.load(args.train)
    metadata |= {"drawing_seed": str(split["seed"]), "training_images": str(len(split["labels"]))}
    metadata["training_epochs"] = f"{args.stop_after} of {args.epochs}"
    for data in args.held_out:
        metadata[f"float_accuracy_{data.stem}"] = f"{accuracy(average, data):.4f}"
        print(f"float accuracy on {data.stem}: {metadata[f'float_accuracy_{data.stem}']}", flush=True)
    save_safetensors(args.out, average.state_dict(), metadata)


if __name__ == "__main__":
    main()
