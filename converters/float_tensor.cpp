#include "converters/float_tensor.h"

#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

#include "graph/error.h"

namespace intaglio {
namespace {

float double_to_float(double value) {
  // The cast of a value out of range would be undefined. NaN passes the comparison by.
  constexpr double kLargest = std::numeric_limits<float>::max();
  if (std::abs(value) > kLargest) {
    return std::copysign(std::numeric_limits<float>::infinity(), value < 0 ? -1.0F : 1.0F);
  }
  return static_cast<float>(value);
}

template <typename Element, typename Convert>
std::vector<float> convert_all(std::span<const std::byte> bytes, Convert convert) {
  std::vector<float> values(bytes.size() / sizeof(Element));
  for (std::size_t i = 0; i < values.size(); ++i) {
    Element element;
    std::memcpy(&element, bytes.data() + i * sizeof element, sizeof element);
    values[i] = convert(element);
  }
  return values;
}

}  // namespace

float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits >> 15) << 31;
  const std::uint32_t exponent = (bits >> 10) & 0x1fU;
  const std::uint32_t fraction = bits & 0x3ffU;
  if (exponent == 0) {  // zero and subnormals: multiples of 2^-24
    const float magnitude = std::ldexp(static_cast<float>(fraction), -24);
    return sign == 0 ? magnitude : -magnitude;
  }
  constexpr std::uint32_t kBiasDifference = 127 - 15;
  const std::uint32_t wide = exponent == 0x1f ? 0xff : exponent + kBiasDifference;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

float bfloat16_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

std::vector<float> to_floats(DType dtype, std::span<const std::byte> bytes,
                             const std::string& what) {
  switch (dtype) {
    case DType::kF32:
      return convert_all<float>(bytes, [](float x) { return x; });
    case DType::kF16:
      return convert_all<std::uint16_t>(bytes, half_to_float);
    case DType::kBF16:
      return convert_all<std::uint16_t>(bytes, bfloat16_to_float);
    case DType::kF64:
      return convert_all<double>(bytes, double_to_float);
    default:
      throw Error(ErrorCode::kUnsupported, what + ": expected F32, F16, BF16 or F64, found " +
                                               std::string(dtype_name(dtype)));
  }
}

std::vector<std::size_t> row_major_strides(const std::vector<std::size_t>& shape) {
  std::vector<std::size_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

std::vector<float> gather(std::span<const float> values, const std::vector<std::size_t>& shape,
                          const std::vector<std::size_t>& strides) {
  assert(shape.size() == strides.size());
  std::size_t elements = 1;
  for (const std::size_t n : shape) elements *= n;
  std::vector<float> gathered(elements);
  std::vector<std::size_t> index(shape.size());
  std::size_t at = 0;
  for (float& value : gathered) {
    value = values[at];
    for (std::size_t i = shape.size(); i-- > 0;) {
      at += strides[i];
      if (++index[i] < shape[i]) break;
      at -= strides[i] * shape[i];
      index[i] = 0;
    }
  }
  return gathered;
}

}  // namespace intaglio
