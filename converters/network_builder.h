// How networks are put together: layers one after the other, and the block that all families have.
#pragma once

#include <cstddef>
#include <string>

#include "converters/network.h"

namespace intaglio {

/// Appends layers to a network; each call returns the id of the one it made. Parameters are taken
/// out of what is passed.
class NetworkBuilder {
 public:
  Network network;
  std::size_t rows = 0;   ///< of the results of layers to come
  std::size_t width = 0;  ///< of their map, or 0

  template <typename OpT>
  std::size_t add(std::string name, std::string result, std::size_t src, std::size_t channels,
                  OpT op) {
    network.layers.push_back(
        {std::move(name), std::move(result), src, rows, channels, std::move(op), width});
    return network.layers.size() - 1;
  }
  std::size_t linear(std::string name, std::string result, std::size_t src, FloatLinear& layer);
  std::size_t norm(std::string name, std::string result, std::size_t src, FloatNorm& layer);

  /// The quantizers behind attention and proj, whose numbers depend on how many come before.
  struct AttentionResults {
    const char* attention;
    const char* proj;
  };
  /// `name` ends in a dot; x is the stream.
  std::size_t block(const std::string& name, std::size_t x, FloatBlock& b, AttentionLayer attention,
                    AttentionResults results);
};

}  // namespace intaglio
