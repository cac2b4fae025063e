// What the makers of checkpoints call the parameters of a ViT or DeiT: timm, Hugging Face's
// transformers, and Google's JAX code. docs/file_format.md, "Float checkpoints".
#pragma once

#include <string>
#include <vector>

#include "converters/checkpoint.h"
#include "converters/tensor_names.h"

namespace intaglio {

/// Names as they stand in one checkpoint. A module's tensors are its name + `weight` (of a norm:
/// + `scale`) and + `bias`; block i's modules are block(i) + the name in `in_block`.
struct VitNames {
  std::string scheme;  ///< for people: "timm"
  /// Weights are [in, out], the convolution's [y, x, in, out], and the channels of attention are
  /// [heads, head_dim]; else [out, in] and [out, in, y, x], as PyTorch has them.
  bool transposed = false;
  std::string weight, scale, bias;
  std::string cls_token, position;
  std::string dist_token;  ///< empty: none
  std::string patch_embed, norm, head;
  std::string head_dist;  ///< classifies the distillation token; empty: nothing does
  std::string blocks;
  char separator = '.';
  BlockNames in_block;
  bool qkv_bias = true;
  bool position_without_prefix = false;  ///< allowed: positions for patches alone
  float epsilon = 1e-6F;                 ///< of norms, unless a config tells another
  bool deit = false;                     ///< only a DeiT is called so
  std::vector<std::string> ignored;      ///< beginnings of names that inference does not need

  std::string block(std::size_t index) const { return blocks + std::to_string(index) + separator; }
  bool ignores(const std::string& tensor) const;
};

/// Recognises the scheme, and which optional parts the checkpoint has. Throws
/// Error(kUnsupported): for names of no known scheme, with some of them; for parts that change what
/// a ViT computes (register tokens, pooling, ...), naming a tensor.
VitNames recognize_vit_names(const Checkpoint& checkpoint);

}  // namespace intaglio
