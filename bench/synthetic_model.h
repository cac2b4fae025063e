// Models with the shapes of known architectures and pseudo-random parameters, for measurements
// without a checkpoint. Every quantizer's grid fits the distribution of its codes, so that they
// spread over the 8 bits as a calibration would have them.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "graph/graph.h"

namespace intaglio {

struct Architecture {
  const char* name;
  std::size_t image_size, patch, dim, heads, depth, classes;
  bool input_quantizer;  ///< DeiT has one; ViT takes pixels as codes
};

/// All that are known, in the order of --help.
std::span<const Architecture> architectures();
/// Throws Error(kInvalidArgument) that lists the known names.
const Architecture& find_architecture(const std::string& name);

/// The same architecture and size give the same model. image_size 0: the architecture's own.
/// Throws Error(kInvalidArgument) unless it is a multiple of the patch.
Graph synthetic_model(const Architecture& architecture, std::size_t image_size = 0);

}  // namespace intaglio
