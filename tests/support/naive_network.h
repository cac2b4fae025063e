// A network computed with plain loops in double: the oracle of the float executor.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "converters/network.h"

namespace intaglio::test {

/// Logits of one image, pixels [height, width, 3]. With `uniform_attention` every token attends to
/// all alike. Reads no AttentionLayer::beyond: the network is as a checkpoint has it.
std::vector<double> naive_logits(const Network& network, std::span<const std::uint8_t> pixels,
                                 bool uniform_attention = false);

}  // namespace intaglio::test
