"""The network (DeiT layout, timm's parameter names) and the safetensors file it is kept in."""

import json
import math
import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONFIG = {
    "img_size": 32,
    "patch_size": 4,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
    "num_classes": 32,
    "input_quant": True,
}
# Those of DeiT. Not 0.5: codes would then fall on the middle between two integers for every pixel value.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class FloatPoints:
    """What happens at the named points of the forward pass; here nothing. calibrate.py observes and rounds at them."""

    def activation(self, name: str, x: Tensor) -> Tensor:
        return x

    def weight(self, name: str, w: Tensor) -> Tensor:
        return w

    def softmax(self, name: str, scores: Tensor) -> Tensor:
        return scores.softmax(-1)


class Attention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)


class Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim)


class PatchEmbed(nn.Module):
    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)


class VisionTransformer(nn.Module):
    def __init__(self, config: dict = CONFIG) -> None:
        super().__init__()
        dim = config["embed_dim"]
        self.config, self.heads = config, config["num_heads"]
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (config["img_size"] // config["patch_size"]) ** 2, dim))
        self.patch_embed = PatchEmbed(config["patch_size"], dim)
        self.blocks = nn.ModuleList(Block(dim) for _ in range(config["depth"]))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, config["num_classes"])
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" not in name:
                nn.init.trunc_normal_(parameter, std=0.02 if parameter.dim() == 3 else 1 / math.sqrt(parameter[0].numel()))

    def forward(self, pixels: Tensor, points: FloatPoints = FloatPoints()) -> Tensor:
        """pixels [batch, 32, 32, 3] u8 -> logits [batch, classes]."""
        act, weight = points.activation, points.weight
        x = ((pixels.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2).contiguous()
        proj = self.patch_embed.proj
        x = F.conv2d(act("qact_input", x), weight("patch_embed.proj", proj.weight), proj.bias, proj.stride)
        x = act("patch_embed.qact", x.flatten(2).transpose(1, 2))  # [batch, patches, dim]
        x = act("qact_embed", torch.cat([self.cls_token.expand(len(x), -1, -1).to(x.dtype), x], 1))
        x = act("qact1", x + act("qact_pos", self.pos_embed))
        for i, block in enumerate(self.blocks):
            x = self.run_block(block, f"blocks.{i}.", x, points)
        x = act("qact2", self.norm(x)[:, 0])
        return act("act_out", F.linear(x, weight("head", self.head.weight), self.head.bias))

    def run_block(self, block: Block, at: str, x: Tensor, points: FloatPoints) -> Tensor:
        """x [batch, tokens, dim] -> the same shape."""

        def act(name: str, value: Tensor) -> Tensor:
            return points.activation(at + name, value)

        def linear(name: str, layer: nn.Linear, value: Tensor) -> Tensor:
            return F.linear(value, points.weight(at + name, layer.weight), layer.bias)

        batch, tokens, dim = x.shape
        qkv = act("attn.qact1", linear("attn.qkv", block.attn.qkv, act("qact1", block.norm1(x))))
        q, k, v = qkv.reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        scores = act("attn.qact_attn1", q @ k.transpose(-2, -1) * (dim // self.heads) ** -0.5)
        mixed = (points.softmax(at + "attn.qact_attn1", scores).to(v.dtype) @ v).transpose(1, 2).reshape(batch, tokens, dim)
        mixed = act("attn.qact3", linear("attn.proj", block.attn.proj, act("attn.qact2", mixed)))
        x = act("qact2", x + mixed)
        hidden = linear("mlp.fc1", block.mlp.fc1, act("qact3", block.norm2(x)))
        hidden = act("mlp.qact1", F.gelu(hidden))
        return act("qact4", x + act("mlp.qact2", linear("mlp.fc2", block.mlp.fc2, hidden)))


@torch.no_grad()
def accuracy(model: VisionTransformer, data: Path, points: FloatPoints = FloatPoints()) -> float:
    """Share of the images of a split (.npz of draw.py) that the model classifies rightly."""
    split = np.load(data)
    images, labels = torch.from_numpy(split["images"]), torch.from_numpy(split["labels"])
    model.eval()
    right = sum((model(x, points).argmax(1) == y).sum().item() for x, y in zip(images.split(128), labels.split(128)))
    return right / len(labels)


def save_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Header length (u64), JSON header padded with spaces to 8 bytes, raw little-endian data without holes."""
    kinds = {torch.float32: "F32", torch.int32: "I32"}
    header: dict[str, dict] = {"__metadata__": metadata}
    blobs, offset = [], 0
    for name, tensor in tensors.items():
        blob = tensor.detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file written by save_safetensors."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        values = np.frombuffer(raw[start:end], {"F32": "<f4", "I32": "<i4"}[entry["dtype"]])
        tensors[name] = torch.from_numpy(values.reshape(entry["shape"]).copy())
    return tensors, metadata
