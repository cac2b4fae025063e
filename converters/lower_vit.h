// Builds the integer graph of a calibrated ViT or DeiT.
#pragma once

#include <string>
#include <vector>

#include "converters/vit.h"
#include "graph/graph.h"

namespace intaglio {

struct LoweringOptions {
  /// First attention code of weight 0. 16: the reference's 17 outcomes; 15: strictly 4 bits.
  int zero_code = 16;
};

/// `labels`: one per class, or none. The graph passes check(). Values carry the names of the
/// checkpoint's quantizers ("blocks.0.attn.qact1"), operations those of its layers.
Graph lower_vit(const CalibratedVit& vit, std::vector<std::string> labels,
                const LoweringOptions& options = {});

}  // namespace intaglio
