// Reads the parameters of a Swin, once names and sizes are known.
#pragma once

#include <cstddef>
#include <vector>

#include "converters/checkpoint.h"
#include "converters/swin.h"
#include "converters/swin_names.h"

namespace intaglio {

/// Sizes of the network as its tensors have them. Stage i has dim * 2^i channels.
struct SwinSizes {
  struct Stage {
    std::size_t depth = 0, heads = 0, window = 0, hidden = 0;
  };
  std::size_t patch = 0, dim = 0;
  std::size_t classes = 0;  ///< 0: no classifier
  std::vector<Stage> stages;

  std::size_t dim_of(std::size_t stage) const { return dim << stage; }
};

/// Fills stages, norms and linear layers. `epsilon`: of every norm. Checks every tensor before it
/// reads the first. Throws Error that names the tensor that is missing, misshapen, unreadable, or
/// no part of such a model.
void load_swin(const Checkpoint& checkpoint, const SwinNames& names, const SwinSizes& sizes,
               float epsilon, Swin& swin);

}  // namespace intaglio
