// What the makers of checkpoints call the parameters of a Swin Transformer: timm (two layouts),
// Microsoft, detectors on top of it, mmdetection, and Hugging Face's transformers.
// docs/file_format.md, "Float checkpoints".
#pragma once

#include <string>
#include <vector>

#include "converters/checkpoint.h"
#include "converters/tensor_names.h"

namespace intaglio {

/// Names as they stand in one checkpoint. A module's tensors are its name + ".weight" and ".bias".
struct SwinNames {
  std::string scheme;  ///< for people: "timm"
  std::string root;    ///< before all names: "backbone."; others belong to a detector
  std::string patch_embed;
  std::string norm;        ///< empty: the last of stage_norm, of models without a classifier
  std::string head;        ///< empty: no classifier
  std::string patch_norm;  ///< empty: none
  std::vector<std::string> stage_norm;  ///< of each stage's output, in detectors; empty: none
  std::string stages;
  BlockNames in_block;
  std::string table;              ///< relative position bias, tensor in a block
  bool merge_behind = false;      ///< a merge belongs to the stage behind it
  bool merge_by_channel = false;  ///< the four values of a channel side by side, as unfold() does
  bool qkv_bias = true;
  std::vector<std::string> ignored_endings;  ///< of tensors that follow from the sizes

  std::string stage(std::size_t i) const { return stages + std::to_string(i) + "."; }
  std::string block(std::size_t i, std::size_t j) const {
    return stage(i) + "blocks." + std::to_string(j) + ".";
  }
  /// Between stage i and the next.
  std::string merge(std::size_t i) const { return stage(merge_behind ? i + 1 : i) + "downsample."; }
  bool ignores(const std::string& tensor) const;
};

/// Whether the names are a Swin's.
bool has_swin_names(const Checkpoint& checkpoint);
/// Recognises the scheme, and which optional parts the checkpoint has. Throws Error(kUnsupported)
/// for parts that change what a Swin computes (absolute positions, Swin V2), naming a tensor.
SwinNames recognize_swin_names(const Checkpoint& checkpoint);

}  // namespace intaglio
