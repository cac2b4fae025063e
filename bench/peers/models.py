"""The models that all peers run, each written once against a set of operations.

`forward(ops, name, x)` is the architecture; `ops` decides what an operation does: compute it
(TorchOps), compute and observe it (for calibration), or write a node of an ONNX graph (graphs.py).
Weights are random: speed does not depend on them.
"""
import functools
import math

import numpy as np

IMAGE = 224
CLASSES = 1000
# name: (dim, depth, heads), patches of 16 x 16
VIT = {
    "deit_tiny": (192, 12, 3),
    "deit_small": (384, 12, 6),
    "deit_base": (768, 12, 12),
    "vit_large": (1024, 24, 16),
}
# name: (dim of the first stage, depths, heads), patches of 4 x 4, windows of 7 x 7
SWIN = {
    "swin_tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "swin_small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "swin_base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
}
TITLES = {
    "deit_tiny": "DeiT-T", "deit_small": "DeiT-S", "deit_base": "DeiT-B", "vit_large": "ViT-L",
    "swin_tiny": "Swin-T", "swin_small": "Swin-S", "swin_base": "Swin-B",
}
WINDOW = 7


class Weights:
    """Random parameters by name, the same for the same names and shapes in the same order."""

    def __init__(self):
        self.random = np.random.default_rng(1)
        self.arrays = {}

    def get(self, name, shape, spread, center=0.0):
        if name not in self.arrays:
            values = self.random.standard_normal(shape, dtype=np.float32)
            self.arrays[name] = values * np.float32(spread) + np.float32(center)
        return self.arrays[name]

    def matrix(self, name, rows, cols):
        """Keeps the spread of what it multiplies."""
        return self.get(name + ".weight", (rows, cols), 1 / math.sqrt(cols))

    def bias(self, name, size):
        return self.get(name + ".bias", (size,), 0.1)

    def norm(self, name, size):
        return self.get(name + ".gamma", (size,), 0.1, 1.0), self.get(name + ".beta", (size,), 0.1)

    def relative_bias(self, name, heads):
        """[1, heads, area, area], gathered from a table [differences of (row, column), heads]."""
        side = 2 * WINDOW - 1
        table = self.get(name + ".table", (side * side, heads), 0.5)
        if name not in self.arrays:
            row, column = np.divmod(np.arange(WINDOW * WINDOW), WINDOW)
            away = [p[:, None] - p[None, :] + WINDOW - 1 for p in (row, column)]
            self.arrays[name] = np.ascontiguousarray(
                table[away[0] * side + away[1]].transpose(2, 0, 1)[None])
        return self.arrays[name]


def forward(ops, name, x):
    """x [batch, 3, 224, 224] -> logits [batch, 1000]."""
    return vit(ops, x, *VIT[name]) if name in VIT else swin(ops, x, *SWIN[name])


def mlp(ops, x, name, dim):
    h = ops.linear(ops.norm(x, name + ".norm2", dim), name + ".fc1", dim, 4 * dim)
    return ops.add(x, ops.linear(ops.gelu(h), name + ".fc2", 4 * dim, dim))


def vit(ops, x, dim, depth, heads):
    grid = IMAGE // 16
    tokens = grid * grid + 1
    x = ops.reshape(ops.conv(x, "patch", dim, 16), (-1, dim, tokens - 1))
    # The class token is the first row of the positions, added to a row of zeros.
    x = ops.prepend_zeros(ops.transpose(x, (0, 2, 1)))
    x = ops.add_constant(x, ops.weights.get("position", (1, tokens, dim), 0.5))
    for i in range(depth):
        block = f"block{i}"
        h = ops.attention(ops.norm(x, block + ".norm1", dim), block, dim, heads, tokens)
        x = ops.add(x, ops.linear(h, block + ".proj", dim, dim))
        x = mlp(ops, x, block, dim)
    x = ops.pick(ops.norm(x, "norm", dim), 1, 0)
    return ops.linear(x, "head", dim, CLASSES)


def swin(ops, x, dim, depths, heads):
    side = IMAGE // 4
    x = ops.reshape(ops.conv(x, "patch", dim, 4), (-1, dim, side * side))
    x = ops.norm(ops.transpose(x, (0, 2, 1)), "patch.norm", dim)
    for stage, depth in enumerate(depths):
        for i in range(depth):
            shift = WINDOW // 2 if i % 2 == 1 and side > WINDOW else 0
            x = swin_block(ops, x, f"stage{stage}.block{i}", dim, heads[stage], side, shift)
        if stage < 3:
            x = merge(ops, x, f"stage{stage}.merge", dim, side)
            dim, side = 2 * dim, side // 2
    return ops.linear(ops.mean(ops.norm(x, "norm", dim), 1), "head", dim, CLASSES)


def swin_block(ops, x, name, dim, heads, side, shift):
    across = side // WINDOW
    area = WINDOW * WINDOW
    h = ops.reshape(ops.norm(x, name + ".norm1", dim), (-1, side, side, dim))
    if shift:
        h = ops.roll(h, -shift)
    h = ops.reshape(h, (-1, across, WINDOW, across, WINDOW, dim))
    h = ops.reshape(ops.transpose(h, (0, 1, 3, 2, 4, 5)), (-1, area, dim))
    bias = ops.weights.relative_bias(name + ".relative", heads)
    mask = shift_mask(side, shift) if shift else None
    h = ops.linear(ops.attention(h, name, dim, heads, area, bias, mask), name + ".proj", dim, dim)
    h = ops.reshape(h, (-1, across, across, WINDOW, WINDOW, dim))
    h = ops.reshape(ops.transpose(h, (0, 1, 3, 2, 4, 5)), (-1, side, side, dim))
    if shift:
        h = ops.roll(h, shift)
    return mlp(ops, ops.add(x, ops.reshape(h, (-1, side * side, dim))), name, dim)


def merge(ops, x, name, dim, side):
    """Every 2 x 2 tokens, column by column, become one of twice the width."""
    half = side // 2
    x = ops.reshape(x, (-1, half, 2, half, 2, dim))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 4, 2, 5)), (-1, half * half, 4 * dim))
    return ops.linear(ops.norm(x, name + ".norm", 4 * dim), name, 4 * dim, 2 * dim, bias=False)


@functools.lru_cache(maxsize=None)
def shift_mask(side, shift):
    """[1, windows, 1, area, area]: -100 between tokens that a shifted window only puts together."""
    edge = np.zeros(side, np.int64)
    edge[side - WINDOW:side - shift] = 1
    edge[side - shift:] = 2
    region = edge[:, None] * 3 + edge[None, :]
    across = side // WINDOW
    windows = region.reshape(across, WINDOW, across, WINDOW).transpose(0, 2, 1, 3)
    windows = windows.reshape(across * across, -1)
    apart = windows[:, :, None] != windows[:, None, :]
    return np.where(apart, np.float32(-100), np.float32(0))[None, :, None]


def expanded_attention(ops, x, name, dim, heads, tokens, bias=None, mask=None):
    """Attention as exporters write it, of separate operations."""
    qkv = ops.linear(x, name + ".qkv", dim, 3 * dim)
    qkv = ops.reshape(qkv, (-1, tokens, 3, heads, dim // heads))
    qkv = ops.transpose(qkv, (2, 0, 3, 1, 4))
    q, k, v = (ops.pick(qkv, 0, i) for i in range(3))
    q = ops.scale(q, 1 / math.sqrt(dim // heads))
    scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)), name + ".scores")
    if bias is not None:
        scores = ops.add_constant(scores, bias)
    if mask is not None:
        scores = ops.reshape(scores, (-1, mask.shape[1], heads, tokens, tokens))
        scores = ops.reshape(ops.add_constant(scores, mask), (-1, heads, tokens, tokens))
    out = ops.matmul(ops.softmax(scores), v, name + ".attend")
    return ops.reshape(ops.transpose(out, (0, 2, 1, 3)), (-1, tokens, dim))


def macs(name):
    """Multiply-accumulates of all convolutions, linear layers and products, per image."""
    if name in VIT:
        dim, depth, _ = VIT[name]
        tokens = (IMAGE // 16) ** 2 + 1
        block = tokens * 12 * dim * dim + 2 * tokens * tokens * dim
        return (tokens - 1) * 768 * dim + depth * block + dim * CLASSES
    dim, depths, _ = SWIN[name]
    tokens = (IMAGE // 4) ** 2
    total = tokens * 48 * dim
    for stage, depth in enumerate(depths):
        total += depth * tokens * (12 * dim * dim + 2 * WINDOW * WINDOW * dim)
        if stage < 3:
            tokens //= 4
            total += tokens * 8 * dim * dim
            dim *= 2
    return total + dim * CLASSES


def random_images(count):
    """Normalized pixels, the same for the same count."""
    shape = (count, 3, IMAGE, IMAGE)
    return np.random.default_rng(2).standard_normal(shape, dtype=np.float32)
