#!/usr/bin/env python3
"""The models that bench/peers gives to other engines are what they are called.

usage: test_peers.py FOLDER_OF_PEERS
Exits with 77 where torchvision or onnx is absent.
"""

import collections
import itertools
import sys
import unittest

try:
    import numpy as np
    import onnx
    import torch
    import torchvision
except ImportError as missing:
    print(f"*** SKIPPED: test_peers needs torchvision and onnx: {missing}", file=sys.stderr)
    sys.exit(77)

sys.path.insert(0, sys.argv.pop(1))
import graphs
import models
from torch_ops import TorchOps

TORCHVISION = {"swin_tiny": "swin_t", "swin_base": "swin_b"}  # Swin-S has both of their parts


def torchvision_state(arrays, name):
    """The parameters of models.py under torchvision's names."""
    state = {}

    def add(theirs, ours):
        for suffix, suffixes in (("weight", (".weight", ".gamma")), ("bias", (".bias", ".beta"))):
            for array in (arrays[ours + s] for s in suffixes if ours + s in arrays):
                state[f"{theirs}.{suffix}"] = torch.from_numpy(array)

    dim, depths, _ = models.SWIN[name]
    add("features.0.0", "patch")
    state["features.0.0.weight"] = state["features.0.0.weight"].reshape(dim, 3, 4, 4)
    add("features.0.2", "patch.norm")
    for stage, depth in enumerate(depths):
        for i in range(depth):
            ours, theirs = f"stage{stage}.block{i}.", f"features.{2 * stage + 1}.{i}."
            for part, module in (("norm1", "norm1"), ("qkv", "attn.qkv"), ("proj", "attn.proj"),
                                 ("norm2", "norm2"), ("fc1", "mlp.0"), ("fc2", "mlp.3")):
                add(theirs + module, ours + part)
            state[theirs + "attn.relative_position_bias_table"] = torch.from_numpy(
                arrays[ours + "relative.table"])
        add(f"features.{2 * stage + 2}.reduction", f"stage{stage}.merge")
        add(f"features.{2 * stage + 2}.norm", f"stage{stage}.merge.norm")
    add("norm", "norm")
    add("head", "head")
    return state


def macs_of(graph):
    """Multiply-accumulates of convolutions and products, by the shapes that ONNX infers."""
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
              for v in itertools.chain(graph.value_info, graph.input, graph.output)}
    shapes.update((tensor.name, list(tensor.dims)) for tensor in graph.initializer)
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "MatMulInteger"):
            inner = shapes[node.input[1]]
            depth = np.prod(inner[1:]) if node.op_type == "Conv" else inner[-2]
            total += int(np.prod(shapes[node.output[0]]) * depth)
    return total


class Peers(unittest.TestCase):
    def test_swin_is_torchvisions(self):
        for name, constructor in TORCHVISION.items():
            weights = models.Weights()
            images = torch.from_numpy(models.random_images(1))
            theirs = getattr(torchvision.models, constructor)().eval()
            for module in theirs.modules():
                if isinstance(module, torch.nn.LayerNorm):
                    module.eps = 1e-6
            with self.subTest(name), torch.inference_mode():
                logits = models.forward(TorchOps(weights), name, images)
                missing, unexpected = theirs.load_state_dict(
                    torchvision_state(weights.arrays, name), strict=False)
                self.assertEqual(unexpected, [])
                self.assertEqual([k for k in missing if not k.endswith("position_index")], [])
                expected = theirs(images)
                self.assertGreater(expected.std(), 0.1)
                self.assertLess((logits - expected).abs().max(), 1e-3 * expected.std())

    def test_graphs_have_the_shapes(self):
        for name in ("deit_tiny", "swin_tiny"):
            for variant in ("f32", "dynamic", "qdq"):
                ranges = collections.defaultdict(lambda: (-3.0, 3.0))
                model = graphs.build(name, variant, models.Weights(), ranges)
                with self.subTest(f"{name}, {variant}"):
                    onnx.checker.check_model(model)
                    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
                    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True,
                                                                 data_prop=True)
                    self.assertEqual(macs_of(inferred.graph), models.macs(name))


if __name__ == "__main__":
    unittest.main()
