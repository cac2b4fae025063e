"""Writes the ONNX graphs of a model: graphs.py FOLDER MODEL...

  f32      as exporters write it
  dynamic  int8 with scales found at run time: DynamicQuantizeLinear, MatMulInteger
  qdq      int8 with calibrated scales: QuantizeLinear and DequantizeLinear on what products read
  fused    qdq, with every attention as one QAttention node, as ONNX Runtime's transformer
           optimizer leaves it; only where that node exists (no bias or mask: ViT)

Weights are s8, symmetric, per output channel; activations u8, per tensor.
"""
import math
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import models
from torch_ops import calibrate

VARIANTS = ("f32", "dynamic", "qdq", "fused")


def quantize_weight(weight, axis):
    """-> s8 codes and one scale per index of `axis`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = (np.abs(weight).max(others) / 127).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    return np.rint(weight / scale.reshape(shape)).astype(np.int8), scale


class F32Ops:
    """Every operation appends nodes and returns its output's name."""

    def __init__(self, weights, ranges):
        self.weights, self.ranges = weights, ranges
        self.nodes, self.initializers, self.known = [], [], {}

    def node(self, kind, inputs, name=None, domain="", **attributes):
        output = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [output], output, domain=domain, **attributes))
        return output

    def constant(self, array, name=None):
        if id(array) not in self.known:
            name = name or f"constant_{len(self.initializers)}"
            self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
            self.known[id(array)] = (name, array)  # the array lives on, and so does its id
        return self.known[id(array)][0]

    def float(self, value):
        return self.constant(np.array(value, np.float32))

    def ints(self, values):
        return self.constant(np.array(values, np.int64))

    def conv(self, x, name, dim, patch):
        weight = self.weights.matrix(name, dim, 3 * patch * patch).reshape(dim, 3, patch, patch)
        return self.node("Conv", [x, self.constant(weight), self.bias(name, dim)],
                         kernel_shape=[patch, patch], strides=[patch, patch])

    def bias(self, name, size):
        return self.constant(self.weights.bias(name, size), name + ".bias")

    def linear(self, x, name, cols, rows, bias=True):
        product = self.product(x, name, self.weights.matrix(name, rows, cols).T)
        return self.node("Add", [product, self.bias(name, rows)]) if bias else product

    def product(self, x, name, weight):
        return self.node("MatMul", [x, self.constant(weight, name + ".weight")])

    def matmul(self, a, b, name):
        return self.node("MatMul", [a, b])

    def norm(self, x, name, dim):
        gamma, beta = self.weights.norm(name, dim)
        return self.node("LayerNormalization",
                         [x, self.constant(gamma, name + ".gamma"), self.constant(beta, name + ".beta")],
                         epsilon=1e-6)

    def gelu(self, x):
        erf = self.node("Erf", [self.node("Div", [x, self.float(math.sqrt(2))])])
        product = self.node("Mul", [x, self.node("Add", [erf, self.float(1)])])
        return self.node("Mul", [product, self.float(0.5)])

    def attention(self, x, name, dim, heads, tokens, bias=None, mask=None):
        return models.expanded_attention(self, x, name, dim, heads, tokens, bias, mask)

    def add_constant(self, x, array):
        return self.node("Add", [x, self.constant(array)])

    def prepend_zeros(self, x):
        return self.node("Pad", [x, self.ints([0, 1, 0, 0, 0, 0])])

    def add(self, a, b):
        return self.node("Add", [a, b])

    def scale(self, x, factor):
        return self.node("Mul", [x, self.float(factor)])

    def softmax(self, x):
        return self.node("Softmax", [x], axis=-1)

    def reshape(self, x, shape):
        return self.node("Reshape", [x, self.ints(shape)])

    def transpose(self, x, order):
        return self.node("Transpose", [x], perm=order)

    def pick(self, x, axis, index):
        return self.node("Gather", [x, self.constant(np.array(index, np.int64))], axis=axis)

    def roll(self, x, by):
        for axis in (1, 2):
            head = self.node("Slice", [x, self.ints([-by]), self.ints([2**31]), self.ints([axis])])
            tail = self.node("Slice", [x, self.ints([0]), self.ints([-by]), self.ints([axis])])
            x = self.node("Concat", [head, tail], axis=axis)
        return x

    def mean(self, x, axis):
        return self.node("ReduceMean", [x], axes=[axis], keepdims=0)


class DynamicOps(F32Ops):
    """Linear layers find their input's scale at run time; everything else is f32."""

    def product(self, x, name, weight):
        codes, scale = quantize_weight(weight, 1)
        q, q_scale, q_zero = (f"{name}.input{suffix}" for suffix in ("", ".scale", ".zero"))
        self.nodes.append(
            helper.make_node("DynamicQuantizeLinear", [x], [q, q_scale, q_zero], name + ".quantize"))
        zeros = self.constant(np.zeros(scale.shape, np.int8))
        sums = self.node("MatMulInteger",
                         [q, self.constant(codes, name + ".weight"), q_zero, zeros])
        factor = self.node("Mul", [q_scale, self.constant(scale)])
        return self.node("Mul", [self.node("Cast", [sums], to=TensorProto.FLOAT), factor])


class QdqOps(F32Ops):
    """What convolutions and matrix products read goes through u8 codes."""

    def grid(self, name):
        low, high = self.ranges[name]
        scale = (high - low) / 255
        return (self.constant(np.array(scale, np.float32)),
                self.constant(np.array(round(-low / scale), np.uint8)))

    def codes(self, x, name):
        scale, zero = self.grid(name)
        q = self.node("QuantizeLinear", [x, scale, zero])
        return self.node("DequantizeLinear", [q, scale, zero])

    def weight_codes(self, weight, name, axis):
        codes, scale = quantize_weight(weight, axis)
        zeros = self.constant(np.zeros(scale.shape, np.int8))
        inputs = [self.constant(codes, name + ".weight"), self.constant(scale), zeros]
        return self.node("DequantizeLinear", inputs, axis=axis), scale

    def conv(self, x, name, dim, patch):
        weight = self.weights.matrix(name, dim, 3 * patch * patch).reshape(dim, 3, patch, patch)
        weight, scale = self.weight_codes(weight, name, 0)
        low, high = self.ranges[name]
        fine = (scale * np.float32((high - low) / 255)).astype(np.float32)
        bias = np.rint(self.weights.bias(name, dim) / fine).astype(np.int32)
        bias = self.node("DequantizeLinear", [self.constant(bias), self.constant(fine)], axis=0)
        # The result too: ONNX Runtime has an integer convolution with integer results only.
        out = self.node("Conv", [self.codes(x, name), weight, bias], kernel_shape=[patch, patch],
                        strides=[patch, patch])
        return self.codes(out, name + ".out")

    def product(self, x, name, weight):
        return self.node("MatMul", [self.codes(x, name), self.weight_codes(weight, name, 1)[0]])

    def matmul(self, a, b, name):
        return self.node("MatMul", [self.codes(a, name + ".a"), self.codes(b, name + ".b")])


class FusedOps(QdqOps):
    def attention(self, x, name, dim, heads, tokens, bias=None, mask=None):
        name += ".qkv"
        codes, scale = quantize_weight(self.weights.matrix(name, 3 * dim, dim).T, 1)
        x_scale, x_zero = self.grid(name)
        q = self.node("QuantizeLinear", [x, x_scale, x_zero])
        inputs = [q, self.constant(codes, name + ".weight"), self.bias(name, 3 * dim), x_scale,
                  self.constant(scale), "", x_zero, self.constant(np.zeros(scale.shape, np.int8))]
        return self.node("QAttention", inputs, domain="com.microsoft", num_heads=heads)


def build(name, variant, weights, ranges):
    kinds = {"f32": F32Ops, "dynamic": DynamicOps, "qdq": QdqOps, "fused": FusedOps}
    ops = kinds[variant](weights, ranges)
    logits = models.forward(ops, name, "images")
    ops.nodes[-1].output[0] = "logits" if logits == ops.nodes[-1].output[0] else logits
    images = helper.make_tensor_value_info(
        "images", TensorProto.FLOAT, ["batch", 3, models.IMAGE, models.IMAGE])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", models.CLASSES])
    graph = helper.make_graph(ops.nodes, name, [images], [result], ops.initializers)
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


def graph_path(folder, name, variant):
    return pathlib.Path(folder) / f"{name}.{variant}.onnx"


def has_variant(name, variant):
    return variant != "fused" or name in models.VIT


def write_all(folder, name):
    """Writes those graphs of a model that are missing."""
    wanted = [v for v in VARIANTS if has_variant(name, v)]
    missing = [v for v in wanted if not graph_path(folder, name, v).exists()]
    if not missing:
        return
    weights = models.Weights()
    ranges = calibrate(name, weights, models.random_images(2))
    for variant in missing:
        path = graph_path(folder, name, variant)
        partial = path.with_suffix(".partial")
        onnx.save(build(name, variant, weights, ranges), str(partial))
        partial.rename(path)
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    for model in sys.argv[2:]:
        write_all(sys.argv[1], model)
