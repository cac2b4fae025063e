// Where operands live while they are measured, and what they hold.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

namespace intaglio::bench {

/// An operand as the engine's arena holds it: 64-byte aligned. Zeros, or values.
template <class T>
class Operand {
 public:
  Operand() = default;
  explicit Operand(std::size_t count) : size_(count), lines_((count * sizeof(T) + 63) / 64) {}
  explicit Operand(const std::vector<T>& values) : Operand(values.size()) {
    std::copy(values.begin(), values.end(), data());
  }

  T* data() { return reinterpret_cast<T*>(lines_.data()); }
  std::vector<std::byte> bytes() const {
    std::vector<std::byte> copy(size_ * sizeof(T));
    std::memcpy(copy.data(), lines_.data(), copy.size());
    return copy;
  }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::size_t size_ = 0;
  std::vector<Line> lines_;
};

using Rng = std::mt19937_64;

/// Equally likely from low to high, both included.
template <class T>
std::vector<T> random_values(Rng& rng, std::size_t count,
                             std::int64_t low = std::numeric_limits<T>::min(),
                             std::int64_t high = std::numeric_limits<T>::max()) {
  std::uniform_int_distribution<std::int64_t> draw(low, high);
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(draw(rng));
  return values;
}

}  // namespace intaglio::bench
