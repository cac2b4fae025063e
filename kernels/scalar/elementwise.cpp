// GELU, residual add, sum of words, mean of rows, pixels to patches, table lookup.
//
// GELU(x) = max(x, 0) - g(|x|) with g(a) = a * Phi(-a): even in x, at most 0.17, and nothing beyond
// a few units, so a short table over |x| serves both signs. With h the s16 code of x, a = |h| cut
// to the table's end, segment i = a >> segment_bits, f its remainder and s = shift + exponents[c]:
//   dst = clamp(((max(h, 0) * multiplier - base[i] - slope[i] * f + 2^(s-1)) >> s) + z)
// Bounds (proven by graph/check from the table): max(h, 0) * multiplier < 2^30, |base + slope * f|
// < 2^29, s <= 30; the sum stays below 2^31. The straight pieces and the s16 grid together stay
// below a tenth of a code on the grids of real models; the reference applies GELU to the float
// accumulator.
//
// Mean: |sum| <= 255 * 2^23 < 2^31, m <= multiplier < 2^31, shift <= 62: below 2^62 + 2^61. m loses
// less than 2^-30 of its value where the multiplier uses its 31 bits.
//
// Residual add: see ResidualParams. |a - z| <= 255, |b - z| << 7 <= 32640; the multipliers are
// bounded so that both products and the rounding constant sum below 2^31.
#include <bit>
#include <cstring>

#include "kernels/fixed_point.h"
#include "kernels/scalar/scalar.h"

namespace intaglio::kernels::scalar {

std::uint8_t gelu_code(const GeluParams& params, std::size_t c, std::int32_t h) noexcept {
  const std::int32_t last = (64 << params.segment_bits) - 1;
  const int shift = params.shift + (params.exponents == nullptr ? 0 : params.exponents[c]);
  const std::int32_t half = 1 << (shift - 1);
  const std::int32_t magnitude = h < 0 ? -h : h;
  const std::int32_t a = magnitude < last ? magnitude : last;
  const std::int32_t segment = a >> params.segment_bits;
  const std::int32_t rest = a & ((1 << params.segment_bits) - 1);
  const std::int32_t linear = (h < 0 ? 0 : h) * params.multiplier;
  const std::int32_t bend = params.base[segment] + params.slope[segment] * rest;
  const std::int32_t code = ((linear - bend + half) >> shift) + params.zero_point;
  return static_cast<std::uint8_t>(clamp_to(code, 0, 255));
}

void gelu_table(const GeluParams& params, const std::int16_t* src, std::size_t rows,
                std::uint8_t* dst) noexcept {
  for (std::size_t i = 0; i < rows * params.dim; ++i) {
    dst[i] = gelu_code(params, i % params.dim, src[i]);
  }
}

std::uint8_t residual_code(const ResidualParams& params, std::size_t c, std::int32_t a,
                           std::int32_t b) noexcept {
  const std::int32_t addend_a = (a - params.zero_a) * params.multiplier_a;
  const std::int32_t addend_b =
      (b - params.zero_b) * (1 << params.exponents_b[c]) * params.multiplier_b;
  const int shift = params.shift + params.exponents_dst[c];
  const std::int64_t code = rounding_shift_right(addend_a + addend_b, shift);
  return static_cast<std::uint8_t>(clamp_to(code + params.zero_point, 0, 255));
}

void residual_add(const ResidualParams& params, const std::uint8_t* a, const std::uint8_t* b,
                  std::size_t rows, std::uint8_t* dst) noexcept {
  for (std::size_t i = 0; i < rows * params.dim; ++i) {
    dst[i] = residual_code(params, i % params.dim, a[i], b[i]);
  }
}

void add_s16(const std::int16_t* a, const std::int16_t* b, std::size_t count,
             std::int16_t* dst) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    dst[i] = static_cast<std::int16_t>(
        clamp_to(std::int64_t{a[i]} + std::int64_t{b[i]}, INT16_MIN, INT16_MAX));
  }
}

void pixels_to_patches(const PatchParams& params, const std::uint8_t* src, std::size_t src_stride,
                       std::size_t first, std::size_t last, std::uint8_t* dst) noexcept {
  const std::size_t columns = (params.width + params.patch - 1) / params.patch;
  const std::size_t run = params.patch * 3;  // bytes of a patch that lie side by side in the image
  for (std::size_t index = first; index < last; ++index) {
    const std::size_t top = index / columns * params.patch;
    const std::size_t left = index % columns * run;
    for (std::size_t y = 0; y < params.patch; ++y) {
      for (std::size_t i = 0; i < run; ++i) {
        const bool inside = top + y < params.height && left + i < 3 * params.width;
        dst[(index * params.patch + y) * run + i] =
            inside ? params.table[i % 3 * 256 + src[(top + y) * src_stride + left + i]]
                   : params.padding[i % 3];
      }
    }
  }
}

void mean_rows(const MeanParams& params, ColumnRange columns, const std::uint8_t* src,
               std::size_t rows, std::uint8_t* dst) noexcept {
  const int e = static_cast<int>(std::bit_width(rows)) - 1;
  const auto m = static_cast<std::int32_t>((std::int64_t{params.multiplier} << e) /
                                           static_cast<std::int64_t>(rows));
  const int shift = params.shift + e;
  for (std::size_t c = columns.first; c < columns.last; ++c) {
    std::int32_t sum = 0;
    for (std::size_t r = 0; r < rows; ++r) sum += src[r * params.dim + c] - params.zero_src;
    const std::int64_t code =
        scale_accumulator(sum, m, std::int64_t{1} << (shift - 1), shift) + params.zero_point;
    dst[c] = static_cast<std::uint8_t>(clamp_to(code, 0, 255));
  }
}

void lookup_u8(const std::uint8_t* table, const std::uint8_t* src, std::size_t count,
               std::uint8_t* dst) noexcept {
  for (std::size_t i = 0; i < count; ++i) dst[i] = table[src[i]];
}

}  // namespace intaglio::kernels::scalar
