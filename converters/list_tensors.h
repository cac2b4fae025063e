// What is in a float checkpoint, for people and scripts.
#pragma once

#include <string>

#include "converters/checkpoint.h"

namespace intaglio {

struct TensorList {
  std::string text;            ///< a table, or one JSON object
  std::size_t unreadable = 0;  ///< tensors of floats that are damaged or not finite
};

/// Name, type and shape of every tensor; of floats also minimum, maximum, mean and the CRC-32 of
/// their float32 bytes, row-major and little-endian. Reads them all.
TensorList list_tensors(const Checkpoint& checkpoint, bool as_json);

}  // namespace intaglio
