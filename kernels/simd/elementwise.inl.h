// GELU and residual add; formulas and ranges in kernels/scalar/elementwise.cpp. All of it is 32-bit
// work that graph/check keeps within a s32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace intaglio::kernels {
namespace {

/// codes + zero_point, clamped to u8. |codes| <= 2^30, so the sum cannot wrap.
template <class V>
[[gnu::always_inline]] inline typename V::I clamp_u8(typename V::I codes,
                                                     typename V::I zero_point) noexcept {
  return V::min32(V::max32(V::add32(codes, zero_point), V::zero()), V::set1_32(255));
}

template <class V>
void gelu_table(const GeluParams& params, const std::int16_t* src, std::size_t count,
                std::uint8_t* dst) noexcept {
  const auto base = V::make_table64(params.base);
  const auto slope = V::make_table64(params.slope);
  const auto last = V::set1_32((64 << params.segment_bits) - 1);
  const auto rest_mask = V::set1_32((1 << params.segment_bits) - 1);
  const auto multiplier = V::set1_32(params.multiplier);
  const auto half = V::set1_32(1 << (params.shift - 1));
  const auto zero_point = V::set1_32(params.zero_point);
  for (std::size_t i = 0; i < count; i += V::kLanes) {
    const auto h = V::load_s16(src + i, count - i);
    const auto a = V::min32(V::abs32(h), last);
    const auto segment = V::srl32(a, params.segment_bits);
    const auto rest = V::and_bits(a, rest_mask);
    // Both factors are words that are not negative: a multiply-add of words is their product.
    const auto linear = V::madd_s16(V::max32(h, V::zero()), multiplier);
    const auto bend =
        V::add32(V::lookup64(base, segment), V::mullo32(V::lookup64(slope, segment), rest));
    const auto sum = V::add32(V::sub32(linear, bend), half);
    V::store_u8(dst + i, clamp_u8<V>(V::sra32(sum, params.shift), zero_point), count - i);
  }
}

/// floor(x / 2^s + 1/2) = (floor(x / 2^(s-1)) + 1) >> 1: no rounding constant per channel.
template <class V>
void residual_add(const ResidualParams& params, const std::uint8_t* a, const std::uint8_t* b,
                  std::size_t rows, std::uint8_t* dst) noexcept {
  const auto zero_a = V::set1_32(params.zero_a);
  const auto zero_b = V::set1_32(params.zero_b);
  const auto multiplier_a = V::set1_32(params.multiplier_a);
  const auto multiplier_b = V::set1_32(params.multiplier_b);
  const auto shift = V::set1_32(params.shift - 1);
  const auto zero_point = V::set1_32(params.zero_point);
  const std::size_t dim = params.dim;
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t c = 0; c < dim; c += V::kLanes) {
      const std::size_t at = i * dim + c;
      const std::size_t left = dim - c;
      const auto x = V::mullo32(V::sub32(V::load_u8(a + at, left), zero_a), multiplier_a);
      const auto raised = V::sllv32(V::sub32(V::load_u8(b + at, left), zero_b),
                                    V::load_u8(params.exponents_b + c, left));
      const auto sum = V::add32(x, V::mullo32(raised, multiplier_b));
      const auto by = V::add32(shift, V::load_u8(params.exponents_dst + c, left));
      const auto rounded = V::sra32(V::add32(V::srav32(sum, by), V::set1_32(1)), 1);
      V::store_u8(dst + at, clamp_u8<V>(rounded, zero_point), left);
    }
  }
}

}  // namespace
}  // namespace intaglio::kernels
