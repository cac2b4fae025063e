// From s32 accumulators to codes: clamp(((acc * multiplier + bias) >> shift) + zero_point), on the
// lanes of a vector.
//
// The files of this folder are templates over a vector policy V, a struct of static functions that
// each file of kernels/isa defines; they name no instruction set. A vector V::I holds V::kLanes
// signed 32-bit lanes. Everything has internal linkage, because each level compiles its own copy.
//
// The 64-bit work runs on even and odd lanes apart: V::mul_even multiplies lanes 0, 2, 4 ... into
// the 64-bit lanes they start, V::odd moves lanes 1, 3, 5 ... to their left neighbours.
// Precondition (graph/check): |acc * multiplier + bias| < 2^63, so the sums below never wrap.
//
// Two forms:
//  - high: shift >= 32. Whatever the sum, its upper half is a s32 and ((sum >> 32) >> (shift - 32))
//    == sum >> shift, so that the rest is 32-bit work.
//  - exact: any shift. A 64-bit arithmetic shift, then the clamp to [low - zero, high - zero]; both
//    ends have 33 bits. Only then the lanes are narrowed and zero_point is added, modulo 2^32,
//    which cannot be seen because the result lies within the output's range.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/simd/tile.inl.h"

namespace intaglio::kernels {
namespace {

/// What is the same for all columns.
struct Rescale {
  int shift;
  std::int32_t zero_point;
  CodeType output;
  std::int64_t low;   ///< least code - zero_point
  std::int64_t high;  ///< largest code - zero_point
  /// The high form, with a clamp that saturating packs do: exact where zero_point is 0 or where
  /// the codes are u8 and the zero point is one of them.
  bool direct;
};

inline Rescale make_rescale(int shift, std::int32_t zero_point, CodeType output) noexcept {
  const std::int64_t low = output == CodeType::kU8    ? 0
                           : output == CodeType::kS16 ? INT16_MIN
                                                      : INT32_MIN;
  const std::int64_t high = output == CodeType::kU8    ? UINT8_MAX
                            : output == CodeType::kS16 ? INT16_MAX
                                                       : INT32_MAX;
  const bool simple_zero =
      output == CodeType::kU8 ? zero_point >= 0 && zero_point <= 255 : zero_point == 0;
  return {
      shift, zero_point, output, low - zero_point, high - zero_point, shift >= 32 && simple_zero};
}

/// Multiplier and bias of V::kLanes columns.
template <class V>
struct ColumnFactors {
  typename V::I multiplier;
  typename V::I multiplier_odd;  ///< of lanes 1, 3, 5 ... in their left neighbours
  typename V::I bias_even;
  typename V::I bias_odd;
};

template <class V>
[[gnu::always_inline]] inline ColumnFactors<V> load_factors(const std::int32_t* multiplier,
                                                            const std::int64_t* bias) noexcept {
  ColumnFactors<V> f;
  f.multiplier = V::load(multiplier);
  f.multiplier_odd = V::odd(f.multiplier);
  V::deinterleave64(V::load(bias), V::load(bias + V::kLanes / 2), f.bias_even, f.bias_odd);
  return f;
}

/// (acc * multiplier + bias) >> shift for a shift that is 32 and `beyond_32`.
template <class V, class Shift>
[[gnu::always_inline]] inline typename V::I scale_high(typename V::I acc, const ColumnFactors<V>& f,
                                                       Shift beyond_32) noexcept {
  const auto even = V::add64(V::mul_even(acc, f.multiplier), f.bias_even);
  const auto odd = V::add64(V::mul_even(V::odd(acc), f.multiplier_odd), f.bias_odd);
  return V::sra32(V::merge_high(even, odd), beyond_32);
}

/// The codes, zero point and clamp included, of 64-bit sums, for any shift and zero point.
template <class V>
[[gnu::always_inline]] inline typename V::I clamp_exact(typename V::I even, typename V::I odd,
                                                        const Rescale& r) noexcept {
  const auto low = V::set1_64(r.low);
  const auto high = V::set1_64(r.high);
  even = V::min64(V::max64(V::sra64(even, r.shift), low), high);
  odd = V::min64(V::max64(V::sra64(odd, r.shift), low), high);
  return V::add32(V::merge_low(even, odd), V::set1_32(r.zero_point));
}

/// The same of accumulators.
template <class V>
[[gnu::always_inline]] inline typename V::I scale_exact(typename V::I acc,
                                                        const ColumnFactors<V>& f,
                                                        const Rescale& r) noexcept {
  return clamp_exact<V>(V::add64(V::mul_even(acc, f.multiplier), f.bias_even),
                        V::add64(V::mul_even(V::odd(acc), f.multiplier_odd), f.bias_odd), r);
}

/// Stores lanes that hold codes within the output's range; at most `count` of them.
template <class V>
inline void store_codes(CodeType output, std::byte* dst, typename V::I codes,
                        std::size_t count) noexcept {
  switch (output) {
    case CodeType::kU8:
      V::store_u8(reinterpret_cast<std::uint8_t*>(dst), codes, count);
      break;
    case CodeType::kS16:
      V::store_s16(reinterpret_cast<std::int16_t*>(dst), codes, count);
      break;
    case CodeType::kS32:
      V::store_s32(reinterpret_cast<std::int32_t*>(dst), codes, count);
      break;
  }
}

}  // namespace
}  // namespace intaglio::kernels
