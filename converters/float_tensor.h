// Elements of checkpoints as float32, in row-major order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/safetensors.h"

namespace intaglio {

/// The value of IEEE 754 binary16 `bits`, exactly: subnormals, infinities and NaNs too.
float half_to_float(std::uint16_t bits);
/// The value of bfloat16 `bits`, exactly.
float bfloat16_to_float(std::uint16_t bits);

/// Elements of `dtype` (little-endian, of any alignment) as float32, rounded to nearest; a double
/// beyond float32's range becomes an infinity. Throws Error(kUnsupported) that starts with `what`
/// for other types than F32, F16, BF16 and F64.
std::vector<float> to_floats(DType dtype, std::span<const std::byte> bytes,
                             const std::string& what);

/// Strides, in elements, of a tensor without gaps: the last index runs fastest.
std::vector<std::size_t> row_major_strides(const std::vector<std::size_t>& shape);

/// The elements of a strided view, in row-major order. Every index must lie in `values`.
std::vector<float> gather(std::span<const float> values, const std::vector<std::size_t>& shape,
                          const std::vector<std::size_t>& strides);

}  // namespace intaglio
