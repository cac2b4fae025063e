// Proves that a graph can be executed: before it, nothing in the engine trusts a model file.
#pragma once

#include "graph/graph.h"

namespace intaglio {

/// Throws Error that names the operation or value unless all of this holds:
///  - every value is made exactly once, before it is used; types and shapes of operands fit;
///  - zero points, exponents, codes and shifts are in the ranges that kernels.h states;
///  - with the constants as they are, no accumulator and no product can overflow its type,
///    whatever the image;
///  - activations are no larger than the parameters justify; preprocessing fits the input;
///    labels are none or one per class.
/// kFormat: contradictory. kUnsupported: meaningful, but not executable by this version.
void check(const Graph& graph);

/// Largest side of an input image, pixels.
inline constexpr std::size_t kMaxImageSide = 4096;

}  // namespace intaglio
