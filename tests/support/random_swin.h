// Small Swin Transformers with random weights.
#pragma once

#include <cstddef>
#include <vector>

#include "converters/swin.h"

namespace intaglio::test {

struct SwinShape {
  std::size_t height = 20, width = 26, patch = 4, dim = 8, window = 3, hidden = 2, classes = 5;
  std::vector<std::size_t> depths = {2, 2};  ///< blocks of each stage
  bool patch_norm = true;
  unsigned seed = 1;
};

/// The same shape gives the same network. Stage i has 2^i heads;
/// `hidden` is a multiple of channels.
Swin random_swin(const SwinShape& shape = {});

}  // namespace intaglio::test
