// What the tests of the importer share: golden checkpoints, changed until they must be refused.
#pragma once

#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "converters/fqvit_import.h"
#include "tests/support/expect_error.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {

/// A checkpoint that the authors' code wrote; of tests/golden.
const Checkpoint& golden_checkpoint(const std::string& name);

CalibratedNetwork imported(const Checkpoint& checkpoint);

/// The file of its integer graph.
std::vector<std::byte> model_bytes(const CalibratedNetwork& model);
std::vector<std::byte> model_bytes(const CalibratedVit& vit);

struct ImportCase {
  const char* name;
  std::function<void(Checkpoint&)> apply;
  std::string piece;  ///< of the error's message
  ErrorCode code = ErrorCode::kFormat;
};

/// Each case is an error.
void check_cases(const Checkpoint& golden, const std::vector<ImportCase>& cases);

// What cases apply.
std::function<void(Checkpoint&)> metadata(const char* key, const char* to);
std::function<void(Checkpoint&)> without(const char* key);
std::function<void(Checkpoint&)> tensor(const char* name, const Checkpoint::Tensor& to);
std::function<void(Checkpoint&)> without_tensor(const char* name);
Checkpoint::Tensor zeros(std::vector<std::size_t> shape);

template <typename T>
void set(Checkpoint::Tensor& tensor, std::size_t index, T to) {
  REQUIRE((index + 1) * sizeof(T) <= tensor.bytes.size());
  std::memcpy(tensor.bytes.data() + index * sizeof(T), &to, sizeof(T));
}
template <typename T>
T get(const Checkpoint::Tensor& tensor, std::size_t index) {
  T value;
  std::memcpy(&value, tensor.bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

}  // namespace intaglio::test
