// GEMM u8 x s8 and the driver that attention's products share.
//
// Packed weights: columns (output channels) in vectors of V::kLanes, up to V::kTileVectors of them
// side by side in a panel; k in groups of one dword, padded with zeros, as are the columns of the
// last vector. V::kBytes levels keep s8 (groups of 4) and read src as it lies; others widen the
// weights to s16 (groups of 2) here and a tile's rows of src into a buffer on the stack, because
// vpmaddubsw would saturate (2 * 255 * 127 > 32767).
//
// Order: 64 columns, then rows by 6, then chunks of k: the weights are read once from memory and
// stay in the first or second level of cache while all rows pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/simd/rescale.inl.h"
#include "kernels/simd/tile.inl.h"

namespace intaglio::kernels {
namespace {

template <class V>
inline constexpr std::size_t kPackDepth = V::kBytes ? 4 : 2;
template <class V>
inline constexpr std::size_t kPanelColumns = V::kTileVectors* V::kLanes;

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}

/// Bytes of one column in a panel.
template <class V>
constexpr std::size_t column_bytes(std::size_t k) noexcept {
  return round_up(k, kPackDepth<V>) / kPackDepth<V> * 4;
}

template <class V>
std::size_t gemm_packed_bytes(std::size_t n, std::size_t k) noexcept {
  return round_up(n, V::kLanes) * column_bytes<V>(k);
}

/// The dword of a group: `count` <= 4 weights, or `count` <= 2 widened ones.
template <class V>
inline std::uint32_t weight_group(const std::int8_t* w, std::size_t count) noexcept {
  constexpr std::size_t kBits = 32 / kPackDepth<V>;
  constexpr std::uint32_t kMask = V::kBytes ? 0xff : 0xffff;
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < count; ++i) {
    word |= (static_cast<std::uint32_t>(std::int32_t{w[i]}) & kMask) << (kBits * i);
  }
  return word;
}

template <class V>
void gemm_pack(const std::int8_t* weight, std::size_t n, std::size_t k,
               std::byte* packed) noexcept {
  constexpr std::size_t kDepth = kPackDepth<V>;
  const std::size_t whole = k / kDepth;
  for (std::size_t c0 = 0; c0 < n; c0 += kPanelColumns<V>) {
    const std::size_t exist = n - c0 < kPanelColumns<V> ? n - c0 : kPanelColumns<V>;
    const std::size_t width = round_up(exist, V::kLanes);
    std::byte* panel = packed + c0 * column_bytes<V>(k);
    for (std::size_t c = 0; c < width; ++c) {
      std::byte* out = panel + c * 4;
      const std::int8_t* row = weight + (c0 + c) * k;
      const auto put = [&](std::uint32_t word) {
        std::memcpy(out, &word, sizeof word);
        out += width * 4;
      };
      if (c >= exist) {
        for (std::size_t g = 0; g < column_bytes<V>(k) / 4; ++g) put(0);
        continue;
      }
      for (std::size_t g = 0; g < whole; ++g) put(weight_group<V>(row + g * kDepth, kDepth));
      if (k % kDepth != 0) put(weight_group<V>(row + whole * kDepth, k % kDepth));
    }
  }
}

/// Up to kGroupColumns columns of a product with u8 rows on the left.
template <class V>
struct ColumnGroup {
  const std::byte* b;  ///< panels
  std::size_t k;
  std::size_t columns;
  std::int32_t row_factor;  ///< sum of a row's elements times this is added to all its sums
  Rescale rescale;
  ColumnFactors<V> factors[kGroupColumns / V::kLanes];

  /// Takes multiplier [columns] and bias [columns]; nothing behind them is read.
  void set_factors(const std::int32_t* multiplier, const std::int64_t* bias) noexcept {
    std::int32_t multipliers[kGroupColumns];
    std::int64_t biases[kGroupColumns];
    if (columns < kGroupColumns) {
      for (std::size_t c = 0; c < kGroupColumns; ++c) {
        multipliers[c] = c < columns ? multiplier[c] : 0;
        biases[c] = c < columns ? bias[c] : 0;
      }
      multiplier = multipliers;
      bias = biases;
    }
    for (std::size_t v = 0; v < kGroupColumns / V::kLanes; ++v) {
      factors[v] = load_factors<V>(multiplier + v * V::kLanes, bias + v * V::kLanes);
    }
  }
};

/// Depth of the stack buffer for widened rows.
inline constexpr std::size_t kWideDepth = 1024;

/// src [count] as s16, a zero behind an odd count.
template <class V>
inline void widen_row(const std::uint8_t* src, std::size_t count, std::int16_t* dst) noexcept {
  std::size_t i = 0;
  for (; i + V::kLanes * 2 <= count; i += V::kLanes * 2) V::widen_u8_s16(src + i, dst + i);
  for (; i < count; ++i) dst[i] = src[i];
  if (count % 2 != 0) dst[count] = 0;
}

/// One tile row of a level without byte products: rows are widened chunk by chunk.
template <class V>
inline void multiply_widened(Tile<V> t, const ColumnGroup<V>& group, const std::uint8_t* src,
                             std::size_t src_stride, std::size_t rows) noexcept {
  alignas(64) std::int16_t wide[kTileRows * kWideDepth];
  for (std::size_t k0 = 0; k0 < group.k; k0 += kWideDepth) {
    const std::size_t depth = group.k - k0 < kWideDepth ? group.k - k0 : kWideDepth;
    for (std::size_t r = 0; r < rows; ++r) {
      widen_row<V>(src + r * src_stride + k0, depth, wide + r * kWideDepth);
    }
    t.a = reinterpret_cast<const std::byte*>(wide);
    t.a_stride = kWideDepth * 2;
    t.groups = (depth + 1) / 2;
    t.tail_bytes = 0;
    t.first_group = k0 / 2;
    t.resume = k0 != 0;
    t.suspend = k0 + depth < group.k;
    run_tiles<V, DotWords<V>>(t, rows, group.columns, column_bytes<V>(group.k));
  }
}

/// dst [m, group.columns] = rescaled src [m, k] times the group's columns.
template <class V>
void multiply_group(const ColumnGroup<V>& group, const std::uint8_t* src, std::size_t src_stride,
                    std::size_t m, std::byte* dst, std::size_t dst_stride_bytes) noexcept {
  alignas(64) std::int32_t carry[kTileRows * kGroupColumns];
  std::int32_t row_terms[kTileRows] = {};
  Tile<V> t = {};
  t.b = group.b;
  t.row_terms = row_terms;
  t.carry = carry;
  t.factors = group.factors;
  t.rescale = &group.rescale;
  t.dst_stride = dst_stride_bytes;
  for (std::size_t i = 0; i < m; i += kTileRows) {
    const std::size_t rows = m - i < kTileRows ? m - i : kTileRows;
    const std::uint8_t* a = src + i * src_stride;
    if (group.row_factor != 0) {
      for (std::size_t r = 0; r < rows; ++r) {
        row_terms[r] = group.row_factor * V::sum_u8(a + r * src_stride, group.k);
      }
    }
    t.dst = dst + i * dst_stride_bytes;
    if constexpr (V::kBytes) {
      t.a = reinterpret_cast<const std::byte*>(a);
      t.a_stride = src_stride;
      t.groups = group.k / 4;
      t.tail_bytes = group.k % 4;
      run_tiles<V, DotBytes<V>>(t, rows, group.columns, column_bytes<V>(group.k));
    } else {
      multiply_widened<V>(t, group, a, src_stride, rows);
    }
  }
}

template <class V>
void gemm_u8s8(const GemmParams& params, const std::uint8_t* src, std::size_t src_stride,
               std::size_t m, void* dst, std::size_t dst_stride) noexcept {
  const std::size_t size = output_bytes(params.output);
  ColumnGroup<V> group = {};
  group.k = params.k;
  group.rescale = make_rescale(params.shift, params.zero_point, params.output);
  for (std::size_t j = 0; j < params.n; j += kGroupColumns) {
    group.b = params.packed + j * column_bytes<V>(params.k);
    group.columns = params.n - j < kGroupColumns ? params.n - j : kGroupColumns;
    group.set_factors(params.multiplier + j, params.bias + j);
    multiply_group<V>(group, src, src_stride, m, static_cast<std::byte*>(dst) + j * size,
                      dst_stride * size);
  }
}

}  // namespace
}  // namespace intaglio::kernels
