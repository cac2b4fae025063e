"""The operations of models.py computed by PyTorch, in f32."""
import torch
import torch.nn.functional as F

import models


class TorchOps:
    """`observe(name, tensor)` sees what every product reads, and what the convolution gives."""

    def __init__(self, weights, observe=None):
        self.weights = weights
        self.observe = observe or (lambda name, tensor: None)
        self.tensors = {}

    def constant(self, array):
        if id(array) not in self.tensors:
            self.tensors[id(array)] = torch.from_numpy(array)
        return self.tensors[id(array)]

    def conv(self, x, name, dim, patch):
        self.observe(name, x)
        weight = self.constant(self.weights.matrix(name, dim, 3 * patch * patch))
        bias = self.constant(self.weights.bias(name, dim))
        x = F.conv2d(x, weight.reshape(dim, 3, patch, patch), bias, stride=patch)
        self.observe(name + ".out", x)
        return x

    def linear(self, x, name, cols, rows, bias=True):
        self.observe(name, x)
        weight = self.constant(self.weights.matrix(name, rows, cols))
        return F.linear(x, weight, self.constant(self.weights.bias(name, rows)) if bias else None)

    def norm(self, x, name, dim):
        gamma, beta = self.weights.norm(name, dim)
        return F.layer_norm(x, (dim,), self.constant(gamma), self.constant(beta), 1e-6)

    def matmul(self, a, b, name):
        self.observe(name + ".a", a)
        self.observe(name + ".b", b)
        return a @ b

    def attention(self, x, name, dim, heads, tokens, bias=None, mask=None):
        return models.expanded_attention(self, x, name, dim, heads, tokens, bias, mask)

    def add_constant(self, x, array):
        return x + self.constant(array)

    def prepend_zeros(self, x):
        return F.pad(x, (0, 0, 1, 0))

    def add(self, a, b):
        return a + b

    def scale(self, x, factor):
        return x * factor

    def gelu(self, x):
        return F.gelu(x)

    def softmax(self, x):
        return x.softmax(-1)

    def reshape(self, x, shape):
        return x.reshape(shape)

    def transpose(self, x, order):
        return x.permute(order)

    def pick(self, x, axis, index):
        return x.select(axis, index)

    def roll(self, x, by):
        return torch.roll(x, (by, by), (1, 2))

    def mean(self, x, axis):
        return x.mean(axis)


def calibrate(name, weights, images):
    """The range that every product's input has on `images`: name -> (low, high)."""
    ranges = {}

    def observe(tensor_name, tensor):
        # The outermost values of a large tensor are rare: a calibrator would clip them, too.
        flat = tensor.reshape(-1).float()
        step = max(1, flat.numel() // 100_000)
        sample = flat[::step]
        ranges[tensor_name] = (min(0.0, torch.quantile(sample, 0.0005).item()),
                               max(0.0, torch.quantile(sample, 0.9995).item()))

    with torch.inference_mode():
        models.forward(TorchOps(weights, observe), name, torch.from_numpy(images))
    return ranges
