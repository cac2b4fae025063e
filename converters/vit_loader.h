// Reads the parameters of a Vit, once names and sizes are known.
#pragma once

#include <cstddef>

#include "converters/checkpoint.h"
#include "converters/vit.h"
#include "converters/vit_names.h"

namespace intaglio {

/// Sizes of the network as its tensors have them.
struct VitSizes {
  std::size_t patch = 0, dim = 0, depth = 0, hidden = 0, classes = 0, prefix = 0;
  std::size_t grid = 0;           // patches of a side
  std::size_t position_rows = 0;  // less than patches and prefix where the prefix has none
  std::size_t heads = 0;

  std::size_t head_dim() const { return dim / heads; }
};

/// Fills layers, tokens and positions (of the checkpoint's own image size). `epsilon`: of every
/// norm. Checks every tensor before it reads the first. Throws Error that names the tensor that is
/// missing, misshapen, unreadable, or no part of such a model.
void load_vit(const Checkpoint& checkpoint, const VitNames& names, const VitSizes& sizes,
              float epsilon, Vit& vit);

}  // namespace intaglio
