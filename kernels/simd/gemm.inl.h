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
#include "kernels/simd/gemm_behind.inl.h"
#include "kernels/simd/gemm_tile.inl.h"

namespace intaglio::kernels {
namespace {

template <class V>
std::size_t gemm_packed_bytes(std::size_t n, std::size_t k) noexcept {
  return round_up(n, V::kLanes) * column_bytes<V>(k);
}

/// The dword of a group: 4 weights, or 2 widened ones.
template <class V>
inline std::uint32_t weight_group(const std::int8_t* w) noexcept {
  if constexpr (V::kBytes) {
    std::uint32_t word;
    std::memcpy(&word, w, sizeof word);
    return word;
  } else {
    return static_cast<std::uint16_t>(w[0]) | static_cast<std::uint32_t>(w[1]) << 16;
  }
}

template <class V>
void gemm_pack(const std::int8_t* weight, std::size_t n, std::size_t k,
               std::byte* packed) noexcept {
  // Piece by piece of the rows through a buffer: their own addresses, often powers of two apart,
  // would share a few sets of the cache.
  constexpr std::size_t kPiece = 64;
  alignas(64) std::int8_t pieces[kPanelColumns<V>][kPiece];
  for (std::size_t c0 = 0; c0 < n; c0 += kPanelColumns<V>) {
    const std::size_t exist = n - c0 < kPanelColumns<V> ? n - c0 : kPanelColumns<V>;
    const std::size_t width = round_up(exist, V::kLanes);
    std::byte* out = packed + c0 * column_bytes<V>(k);
    std::memset(pieces, 0, sizeof pieces);  // of the columns that do not exist
    for (std::size_t k0 = 0; k0 < k; k0 += kPiece) {
      const std::size_t depth = k - k0 < kPiece ? k - k0 : kPiece;
      for (std::size_t c = 0; c < exist; ++c) {
        if (depth < kPiece) std::memset(pieces[c], 0, kPiece);
        std::memcpy(pieces[c], weight + (c0 + c) * k + k0, depth);
      }
      for (std::size_t i = 0; i < depth; i += kPackDepth<V>) {
        for (std::size_t c = 0; c < width; ++c, out += 4) {
          const std::uint32_t word = weight_group<V>(pieces[c] + i);
          std::memcpy(out, &word, sizeof word);
        }
      }
    }
  }
}

/// Up to kColumnStep columns of a product.
template <class V>
struct ColumnGroup {
  const std::byte* b;  ///< panels
  std::size_t k;
  std::size_t columns;
  Rescale rescale;
  int lift;
  ColumnFactors<V> factors[kColumnStep / V::kLanes];

  /// Takes what belongs to the columns from `first` on; nothing behind the last one is read.
  void set_factors(const GemmParams& params, std::size_t first) noexcept {
    lift = lift_of(params, first);
    rescale = make_rescale(params.shift + lift, params.zero_point, params.output);
    const std::int32_t* multiplier = params.multiplier + first;
    const std::int64_t* bias = params.bias + first;
    std::int32_t multipliers[kColumnStep] = {};
    std::int64_t biases[kColumnStep] = {};
    if (columns < kColumnStep) {
      for (std::size_t c = 0; c < columns; ++c) {
        multipliers[c] = multiplier[c];
        biases[c] = bias[c];
      }
      multiplier = multipliers;
      bias = biases;
    }
    for (std::size_t v = 0; v < kColumnStep / V::kLanes; ++v) {
      ColumnFactors<V> f = load_factors<V>(multiplier + v * V::kLanes, bias + v * V::kLanes);
      f.bias_even = V::sll64(f.bias_even, lift);
      f.bias_odd = V::sll64(f.bias_odd, lift);
      factors[v] = f;
    }
  }

 private:
  /// The high form of rescaling wants a shift of 32. A smaller one can grow when accumulators and
  /// biases are shifted left by as much, if |acc| << lift stays below 2^31 and the bias below 2^62:
  /// then |acc * multiplier + bias| stays below 2^63. Sums with a residual stream are left alone.
  int lift_of(const GemmParams& params, std::size_t first) const noexcept {
    const int missing = 32 - params.shift;
    if (missing <= 0 || missing > 8 || params.epilogue == GemmEpilogue::kAddSums) return 0;
    if ((params.k * 255 * 128) >> (31 - missing) != 0) return 0;
    const std::int64_t limit = std::int64_t{1} << (62 - missing);
    for (std::size_t c = first; c < first + columns; ++c) {
      if (params.bias[c] >= limit || params.bias[c] <= -limit) return 0;
    }
    return missing;
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
inline void multiply_widened(Tile<V>& t, const ColumnGroup<V>& group, const std::uint8_t* src,
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

/// The rows of one column group.
template <class V>
void multiply_group(const ColumnGroup<V>& group, Tile<V>& t, const std::uint8_t* src,
                    std::size_t src_stride, std::size_t m) noexcept {
  alignas(64) std::int32_t carry[kTileRows * kColumnStep];
  t.b = group.b;
  t.carry = carry;
  t.factors = group.factors;
  t.rescale = &group.rescale;
  t.lift = group.lift;
  if constexpr (V::kBytes) {
    t.a_stride = src_stride;
    t.groups = group.k / 4;
    t.tail_bytes = group.k % 4;
  }
  std::size_t done = 0;
  if constexpr (kHasTilesBehind<V>) {
    if (t.params->interleave && group.columns == kColumnStep) {
      t.columns = kColumnStep;
      done = multiply_full_tiles<V>(t, src, m);
    }
  }
  for (std::size_t i = done; i < m; i += kTileRows) {
    const std::size_t rows = m - i < kTileRows ? m - i : kTileRows;
    const std::uint8_t* a = src + i * src_stride;
    if constexpr (V::kBytes) {
      t.a = reinterpret_cast<const std::byte*>(a);
      run_tiles<V, DotBytes<V>>(t, rows, group.columns, column_bytes<V>(group.k));
    } else {
      multiply_widened<V>(t, group, a, src_stride, rows);
    }
    t.dst += kTileRows * t.dst_stride;
    t.residual += kTileRows * t.residual_stride;
  }
}

template <class V>
void multiply_columns(const GemmParams& params, const GeluWords<V>* gelu, ColumnRange columns,
                      const std::uint8_t* src, std::size_t src_stride, std::size_t m,
                      const void* residual, void* dst, std::size_t dst_stride) noexcept {
  const std::size_t size = stored_bytes(params);
  ColumnGroup<V> group = {};
  group.k = params.k;
  Tile<V> t = {};
  t.params = &params;
  t.gelu_words = gelu;
  t.dst_stride = dst_stride * size;
  t.residual_stride = dst_stride * residual_bytes(params);
  for (std::size_t j = columns.first; j < columns.last; j += kColumnStep) {
    group.b = params.packed + j * column_bytes<V>(params.k);
    group.columns = columns.last - j < kColumnStep ? columns.last - j : kColumnStep;
    group.set_factors(params, j);
    t.column = j;
    t.dst = static_cast<std::byte*>(dst) + j * size;
    t.residual = residual == nullptr
                     ? t.dst
                     : static_cast<const std::byte*>(residual) + j * residual_bytes(params);
    multiply_group<V>(group, t, src, src_stride, m);
  }
}

template <class V>
void gemm_u8s8(const GemmParams& params, ColumnRange columns, const std::uint8_t* src,
               std::size_t src_stride, std::size_t m, const void* residual, void* dst,
               std::size_t dst_stride) noexcept {
  if (params.epilogue == GemmEpilogue::kGelu && GeluWords<V>::fits(*params.gelu)) {
    const GeluWords<V> gelu(*params.gelu);
    multiply_columns<V>(params, &gelu, columns, src, src_stride, m, residual, dst, dst_stride);
    return;
  }
  multiply_columns<V>(params, nullptr, columns, src, src_stride, m, residual, dst, dst_stride);
}

}  // namespace
}  // namespace intaglio::kernels
