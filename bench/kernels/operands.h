// Where operands live while they are measured.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "tests/support/kernel_operands.h"

namespace intaglio::bench {

/// An operand as the engine's arena holds it: 64-byte aligned.
template <class T>
struct Operand : test::GuardedBuffer<T> {
  explicit Operand(std::size_t count) : test::GuardedBuffer<T>(count, test::Placement::kMiddle) {}
  explicit Operand(const std::vector<T>& values)
      : test::GuardedBuffer<T>(values, test::Placement::kMiddle) {}

  std::vector<std::byte> bytes() const {
    std::vector<std::byte> copy(this->size() * sizeof(T));
    std::memcpy(copy.data(), this->data(), copy.size());
    return copy;
  }
};

template <class T>
std::vector<T> random_values(test::Rng& rng, std::size_t count,
                             std::int64_t low = std::numeric_limits<T>::min(),
                             std::int64_t high = std::numeric_limits<T>::max()) {
  return test::make_values<T>(rng, count, test::Fill::kRandom, low, high);
}

}  // namespace intaglio::bench
