// What calibration decides about a network: grids, weight codes, and the integer form it takes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "converters/network.h"
#include "graph/graph.h"

namespace intaglio {

/// Symmetric s8 weights: one scale per output channel [n]. `codes` [n, k]; empty: every weight is
/// divided by its scale and rounded.
struct WeightGrid {
  std::vector<float> scale;
  std::vector<std::int8_t> codes;
};

/// Scales are float32 values, as the reference's; results are u8 unless said otherwise. A linear
/// layer whose result has no grid adds its accumulators to the residual stream directly; before
/// GELU, and before a s16 embedding, its result is s16, of the last layer s32.
struct Calibration {
  std::map<std::string, Grid> grids;          ///< by the quantizer's name; none for "qact_input":
                                              ///< the pixels are the codes
  std::map<std::string, WeightGrid> weights;  ///< by the layer's name

  /// The paper's softmax; codes relative to the row's maximum; or uniform probabilities, which have
  /// grids with zero point 0 (probability_grid_of).
  SoftmaxForm softmax = SoftmaxForm::kLogInt;
  /// First attention code of weight 0. 16: the reference's 17 outcomes; 15: strictly 4 bits.
  int zero_code = 16;
  /// Of residual streams: u8 on PTF grids, or s16, with one scale for those that additions join.
  DType stream = DType::kU8;
};

}  // namespace intaglio
