// Models with the shapes of known architectures and pseudo-random parameters, for measurements
// without a checkpoint.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "graph/graph.h"

namespace intaglio {

struct Architecture {
  const char* name;
  std::size_t image_size, patch, dim, heads, depth, classes;
  bool input_quantizer;  ///< DeiT and Swin have one; ViT takes pixels as codes
  /// Of Swin: tokens of a side at most sizes, and at 384 pixels; 0: a ViT. A Swin has `depth`
  /// blocks in the third of its four stages and two in the others; dim and heads of the first
  /// double from stage to stage.
  std::size_t window = 0, large_window = 0;
};

/// All that are known, in the order of --help.
std::span<const Architecture> architectures();
/// Throws Error(kInvalidArgument) that lists the known names.
const Architecture& find_architecture(const std::string& name);

/// What `intaglio-convert quantize --method` makes: our own form, or the paper's.
enum class SyntheticMethod : std::uint8_t { kDefault, kFqvit };

/// The same arguments give the same model. image_size 0: the architecture's own. Throws
/// Error(kInvalidArgument) unless a ViT's is a multiple of the patch.
Graph synthetic_model(const Architecture& architecture, std::size_t image_size = 0,
                      SyntheticMethod method = SyntheticMethod::kDefault);

}  // namespace intaglio
