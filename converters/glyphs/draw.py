#!/usr/bin/python3
"""Draws printed characters: the images on which the embedded model is trained, calibrated, checked and shown.

32 classes: the Crockford base-32 alphabet, whose characters cannot be taken for one another. An image is a function of
(seed, split, index) alone, so splits are disjoint and the number of workers does not matter.

Needs python3-numpy, python3-pil and the font packages named in fonts.py (Debian 12).
"""

import argparse
import csv
import io
import multiprocessing
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from fonts import find_fonts

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
INPUT_SIDE = 32
SPLITS = {"train": 0, "calibration": 1, "held_out": 2, "held_out_fonts": 3, "samples": 4}
GLYPH_HEIGHT = 80  # height in pixels at which outlines are rasterized once, before they are warped
LUMA = np.array([0.299, 0.587, 0.114])
MIN_CONTRAST = 0.28  # smallest distance in luma (0..1) between the character and any part of its background


@lru_cache(maxsize=None)
def glyph_mask(font: Path, char: str) -> Image.Image:
    """The character in black and white, cropped to its ink: an L image about GLYPH_HEIGHT high."""
    face = ImageFont.truetype(str(font), GLYPH_HEIGHT * 4 // 3)
    left, top, right, bottom = face.getbbox(char)
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), char, font=face, fill=255)
    return mask.crop(mask.getbbox())


def homography(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The 8 coefficients that take each of the 4 points of target to its point of source. Both [4, 2]."""
    rows, values = [], []
    for (x, y), (u, v) in zip(target, source):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(rows), np.array(values))


def place_quad(rng: np.random.Generator, aspect: float) -> np.ndarray:
    """Corners [4, 2] of the warped character box in units of the centre square, all within it; aspect = width / height."""
    height = rng.uniform(0.55, 0.88)
    width = min(height * aspect * rng.uniform(0.85, 1.2), 0.9)
    quad = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, height / 2]
    quad[:, 0] += rng.normal(0, 0.09) * quad[:, 1]  # shear
    angle = np.clip(rng.normal(0, 0.13), -0.35, 0.35)
    quad = quad @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    quad += rng.uniform(-0.04, 0.04, (4, 2))  # perspective
    low, high = quad.min(0), quad.max(0)
    quad *= min(1.0, 0.94 / (high - low).max())
    low, high = quad.min(0), quad.max(0)
    margin = 0.02
    return quad + 0.5 + rng.uniform(-1, 1, 2) * np.minimum(0.12, 0.5 - margin - (high - low) / 2) - (low + high) / 2


def pick_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A foreground [3] and two background colours [2, 3] in 0..1 that differ from it in luma by MIN_CONTRAST or more."""
    grey = rng.random() < 0.2
    while True:
        colours = rng.random((3, 3))
        if grey:
            colours[:] = colours[:, :1]
        if np.abs(colours[1:] @ LUMA - colours[0] @ LUMA).min() < MIN_CONTRAST:
            continue
        if (colours[1] @ LUMA > colours[0] @ LUMA) == (colours[2] @ LUMA > colours[0] @ LUMA):
            return colours[0], colours[1:]


def background_weight(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """How much of the second background colour each pixel has: [height, width] in 0..1."""
    x, y = np.meshgrid(np.arange(width) / min(width, height), np.arange(height) / min(width, height))
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    kind = rng.choice(["flat", "gradient", "noise", "stripes", "checks", "blobs"], p=[0.25, 0.25, 0.12, 0.13, 0.1, 0.15])
    if kind == "flat":
        return np.zeros((height, width))
    if kind == "gradient":
        return (along - along.min()) / np.ptp(along)
    if kind == "noise":
        cells = rng.random((2 + rng.integers(14), 2 + rng.integers(14)))
        image = Image.fromarray((cells * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(image) / 255.0
    phase, period = rng.random(), rng.uniform(0.12, 0.5)
    if kind == "stripes":
        return np.clip(0.5 + np.sin(2 * np.pi * (along / period + phase)) * rng.uniform(0.5, 4), 0, 1)
    if kind == "checks":
        across = np.cos(angle) * y - np.sin(angle) * x
        return (np.floor(along / period + phase) + np.floor(across / period)) % 2
    weight = np.zeros((height, width))
    for _ in range(rng.integers(2, 7)):
        centre, radius = rng.random(2) * [x.max(), y.max()], rng.uniform(0.08, 0.3)
        weight = np.maximum(weight, np.clip((radius - np.hypot(x - centre[0], y - centre[1])) * 20, 0, 1))
    return weight


def degrade(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Blur, noise and JPEG artefacts, each in some of the images."""
    unit = min(image.size) / INPUT_SIDE
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9) * unit))
    if rng.random() < 0.4:
        noise = rng.normal(0, rng.uniform(2, 20), (*image.size[::-1], 3))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    if rng.random() < 0.25:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(35, 90)))
        image = Image.open(buffer).convert("RGB")
    return image


def draw(rng: np.random.Generator, font: Path, char: str, width: int, height: int) -> Image.Image:
    """One RGB image; the character lies within the centre square of side min(width, height)."""
    side = min(width, height)
    corner = np.array([width - side, height - side]) / 2
    glyph = glyph_mask(font, char)
    foreground, background = pick_colours(rng)
    weight = background_weight(rng, width, height)[..., None]
    canvas = background[0] * (1 - weight) + background[1] * weight
    box = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * glyph.size
    quad = (place_quad(rng, glyph.width / glyph.height) * side + corner) * 2  # drawn at twice the size, then averaged
    coefficients = homography(quad, box)
    mask = glyph.transform((width * 2, height * 2), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR).reduce(2)
    alpha = np.asarray(mask)[..., None] / 255.0
    canvas = canvas * (1 - alpha) + foreground * alpha
    return degrade(rng, Image.fromarray((canvas * 255 + 0.5).astype(np.uint8)))


def to_input(image: Image.Image) -> np.ndarray:
    """Shorter side to INPUT_SIDE (bicubic), centre crop: [32, 32, 3] u8, what the engine does before the network."""
    width, height = image.size
    side = min(width, height)
    image = image.resize((INPUT_SIDE * width // side, INPUT_SIDE * height // side), Image.Resampling.BICUBIC)
    left, top = round((image.width - INPUT_SIDE) / 2), round((image.height - INPUT_SIDE) / 2)
    return np.asarray(image.crop((left, top, left + INPUT_SIDE, top + INPUT_SIDE)))


def draw_indexed(index: int, seed: int, split: str) -> Image.Image:
    """Image number `index` of a split; its class is index % 32."""
    rng = np.random.default_rng([seed, SPLITS[split], index])
    fonts = find_fonts(split == "held_out_fonts") if split != "samples" else find_fonts(False) + find_fonts(True)
    font = fonts[rng.integers(len(fonts))]
    width = height = int(rng.integers(INPUT_SIDE, 97))
    if rng.random() < 0.3:
        width, height = [(width, max(INPUT_SIDE, width * 2 // 3)), (max(INPUT_SIDE, width * 2 // 3), width)][rng.integers(2)]
    return draw(rng, font, ALPHABET[index % len(ALPHABET)], width, height)


def draw_input(index: int, seed: int, split: str) -> np.ndarray:
    """The same image as the network sees it: [32, 32, 3] u8."""
    return to_input(draw_indexed(index, seed, split))


def draw_split(split: str, count: int, seed: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [count, 32, 32, 3] u8 and labels [count] of a split."""
    with multiprocessing.Pool(workers) as pool:
        images = pool.map(partial(draw_input, seed=seed, split=split), range(count), chunksize=256)
    return np.stack(images), np.arange(count) % len(ALPHABET)


def write_samples(folder: Path, seed: int, per_class: int) -> None:
    """Sample files in PNG and JPEG with a labels.csv, and labels.txt beside the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "labels.txt").write_text("".join(f"{char}\n" for char in ALPHABET))
    with open(folder / "labels.csv", "w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["file", "label"])
        for index in range(per_class * len(ALPHABET)):
            label, number = index % len(ALPHABET), index // len(ALPHABET)
            name = f"{ALPHABET[label]}_{number}." + ("png" if number % 2 else "jpg")
            image = draw_indexed(index, seed, "samples")
            image.save(folder / name, **({"optimize": True} if number % 2 else {"quality": 85}))
            writer.writerow([name, label])


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a split into an .npz file, or the sample files.")
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("--out", type=Path, required=True, help="an .npz file; for samples a folder")
    parser.add_argument("--count", type=int, default=4096, help="number of images (samples: 5 of each class)")
    parser.add_argument("--seed", type=int, default=2113824)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    args = parser.parse_args()
    if args.split == "samples":
        write_samples(args.out, args.seed, per_class=5)
        return
    images, labels = draw_split(args.split, args.count, args.seed, args.workers)
    np.savez(args.out, images=images, labels=labels, seed=args.seed)


if __name__ == "__main__":
    main()
