"""Checkpoints that several tests make."""

import json
import struct


def write_safetensors(path, tensors, metadata):
    """`tensors`: name -> (shape, bytes of float32)."""
    header, at = {"__metadata__": metadata}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(d for _, d in tensors.values()))


def float_glyphs(folder, path):
    """The embedded model, of converters/glyphs, as it was before calibration."""
    data = (folder / "glyphs.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header, data = json.loads(data[8 : 8 + length]), data[8 + length :]
    metadata = header.pop("__metadata__")
    tensors = {name: (t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items()
               if ".quantizer." not in name}
    kept = ("config", "mean", "std", "img_size", "crop_pct", "interpolation")
    write_safetensors(path, tensors, {key: metadata[key] for key in kept if key in metadata})
