// Scores and P v as products of the register tile, packed on the fly.
//
// Scores. With b = k - c, c = V::score_center(z) the number that makes k fit the right operand
// (128 for s8, z itself for s16):
//   sum (q - z)(k - z) = sum q b + (c - z) sum q - z sum (k - z)
// The second term is a row's, the start of its sums; the third a column's, part of its bias.
// |sum q b| <= 255 * 255 * 256, the row term the same, the column term the same: below 2^26
// together, and the bias term below 2^24 * 2^31 + 2^61.
//
// P v. Weights 2^(15-c) reach 2^15, one more than s16 holds, but -2^(15-c) fits; so does z - v:
//   sum (v - z) w = sum (-w)(z - v)
// Tokens are taken in pairs. The sums are those of the scalar definition, no correction needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/simd/gemm.inl.h"

namespace intaglio::kernels {
namespace {

/// Lays out `columns` rows of k as the right operand of scores. The missing columns of the last
/// vector keep whatever `b` holds: their sums are never stored.
template <class V>
inline void pack_keys(const std::uint8_t* k, std::size_t stride, std::size_t columns,
                      std::size_t head_dim, std::int32_t center, std::byte* b) noexcept {
  constexpr std::size_t kDepth = kPackDepth<V>;
  constexpr std::size_t kBits = 32 / kDepth;
  constexpr std::uint32_t kMask = V::kBytes ? 0xff : 0xffff;
  for (std::size_t c = 0; c < columns; ++c) {
    const std::size_t first = c / kPanelColumns<V> * kPanelColumns<V>;
    const std::size_t left = columns - first;
    const std::size_t width =
        round_up(left < kPanelColumns<V> ? left : kPanelColumns<V>, V::kLanes);
    std::byte* out = b + first * column_bytes<V>(head_dim) + (c - first) * 4;
    const std::uint8_t* row = k + c * stride;
    for (std::size_t d = 0; d < head_dim; d += kDepth) {
      std::uint32_t word = 0;
      if (V::kBytes && d + kDepth <= head_dim) {
        std::memcpy(&word, row + d, sizeof word);
        word ^= 0x80808080u;  // center == 128
      } else {
        for (std::size_t i = 0; i < kDepth && d + i < head_dim; ++i) {
          word |= (static_cast<std::uint32_t>(row[d + i] - center) & kMask) << (kBits * i);
        }
      }
      std::memcpy(out, &word, sizeof word);
      out += width * 4;
    }
  }
}

template <class V>
void attention_scores(const ScoreParams& params, const std::uint8_t* q, std::size_t rows,
                      const std::uint8_t* k, std::size_t tokens, std::size_t head_dim,
                      std::size_t stride, std::uint8_t* dst) noexcept {
  alignas(64) std::byte b[kGroupColumns * column_bytes<V>(kMaxHeadDim)];
  std::int32_t multiplier[kGroupColumns];
  std::int64_t bias[kGroupColumns];
  const std::int32_t center = V::score_center(params.zero_src);
  ColumnGroup<V> group = {};
  group.b = b;
  group.k = head_dim;
  group.row_factor = center - params.zero_src;
  group.rescale = make_rescale(params.shift, params.zero_point, OutputType::kU8);
  for (std::size_t j = 0; j < tokens; j += kGroupColumns) {
    group.columns = tokens - j < kGroupColumns ? tokens - j : kGroupColumns;
    pack_keys<V>(k + j * stride, stride, group.columns, head_dim, center, b);
    for (std::size_t c = 0; c < group.columns; ++c) {
      const std::int32_t sum = V::sum_u8(k + (j + c) * stride, head_dim) -
                               static_cast<std::int32_t>(head_dim) * params.zero_src;
      multiplier[c] = params.multiplier;
      bias[c] = std::int64_t{-params.zero_src * sum} * params.multiplier +
                (std::int64_t{1} << (params.shift - 1));
    }
    group.set_factors(multiplier, bias);
    multiply_group<V>(group, q, stride, rows, reinterpret_cast<std::byte*>(dst) + j, tokens);
  }
}

/// Tokens whose values and weights are kept on the stack at a time.
inline constexpr std::size_t kTokenChunk = 256;

/// z - v of `tokens` rows and `columns` columns, tokens in pairs, as panels.
template <class V>
inline void pack_values(const std::uint8_t* v, std::size_t stride, std::size_t tokens,
                        std::size_t columns, std::int32_t zero, std::byte* b) noexcept {
  const auto zeros = V::set1_32(zero);
  const std::size_t pairs = (tokens + 1) / 2;
  for (std::size_t first = 0; first < columns; first += kPanelColumns<V>) {
    const std::size_t left = columns - first;
    const std::size_t exist = left < kPanelColumns<V> ? left : kPanelColumns<V>;
    std::byte* out = b + first * pairs * 4;
    for (std::size_t p = 0; p < pairs; ++p) {
      const std::uint8_t* row = v + 2 * p * stride + first;
      for (std::size_t c = 0; c < exist; c += V::kLanes) {
        const auto even = V::sub32(zeros, V::load_u8(row + c, exist - c));
        const auto odd = 2 * p + 1 < tokens
                             ? V::sub32(zeros, V::load_u8(row + stride + c, exist - c))
                             : V::zero();
        V::store(out, V::pair_words(even, odd));
        out += sizeof(typename V::I);
      }
    }
  }
}

/// -2^(15-c) of each code below zero_code, else 0, and a zero behind an odd count.
template <class V>
inline void weigh_codes(const std::uint8_t* codes, std::size_t count, std::int32_t zero_code,
                        std::int16_t* dst) noexcept {
  const auto unit = V::set1_32(-(1 << 15));
  const auto limit = V::set1_32(zero_code);
  for (std::size_t i = 0; i < count; i += V::kLanes) {
    const auto code = V::load_u8(codes + i, count - i);
    V::store_s16(dst + i, V::keep_if_less(V::srav32(unit, code), code, limit), count - i);
  }
  if (count % 2 != 0) dst[count] = 0;
}

/// P v of the group's columns for `rows` rows; `v` and `dst` point at the first column. With more
/// than one chunk of tokens, `carry` holds the sums of all rows.
template <class V>
void attend_rows(const AttendParams& params, const ColumnGroup<V>& group, const std::uint8_t* codes,
                 std::size_t rows, const std::uint8_t* v, std::size_t tokens, std::size_t v_stride,
                 std::byte* b, std::int32_t* carry, std::uint8_t* dst,
                 std::size_t dst_stride) noexcept {
  alignas(64) std::int16_t weights[kTileRows * kTokenChunk];
  static constexpr std::int32_t kZeroTerms[kTileRows] = {};
  for (std::size_t j = 0; j < tokens; j += kTokenChunk) {
    const std::size_t chunk = tokens - j < kTokenChunk ? tokens - j : kTokenChunk;
    pack_values<V>(v + j * v_stride, v_stride, chunk, group.columns, params.zero_src, b);
    for (std::size_t i = 0; i < rows; i += kTileRows) {
      const std::size_t tile_rows = rows - i < kTileRows ? rows - i : kTileRows;
      for (std::size_t r = 0; r < tile_rows; ++r) {
        weigh_codes<V>(codes + (i + r) * tokens + j, chunk, params.zero_code,
                       weights + r * kTokenChunk);
      }
      Tile<V> t = {};
      t.a = reinterpret_cast<const std::byte*>(weights);
      t.a_stride = kTokenChunk * 2;
      t.groups = (chunk + 1) / 2;
      t.b = b;
      t.row_terms = kZeroTerms;
      t.carry = carry + (tokens <= kTokenChunk ? 0 : i * kGroupColumns);
      t.resume = j != 0;
      t.suspend = j + chunk < tokens;
      t.factors = group.factors;
      t.rescale = &group.rescale;
      t.dst = reinterpret_cast<std::byte*>(dst + i * dst_stride);
      t.dst_stride = dst_stride;
      run_tiles<V, DotWords<V>>(t, tile_rows, group.columns, t.groups * 4);
    }
  }
}

/// Rows whose sums are carried from chunk to chunk when there is more than one.
inline constexpr std::size_t kCarriedRows = 8 * kTileRows;

template <class V>
void attend_log2(const AttendParams& params, const std::uint8_t* codes, std::size_t rows,
                 const std::uint8_t* v, std::size_t tokens, std::size_t head_dim,
                 std::size_t v_stride, std::uint8_t* dst, std::size_t dst_stride) noexcept {
  alignas(64) std::byte b[kGroupColumns * kTokenChunk * 2];
  alignas(64) std::int32_t carry[kCarriedRows * kGroupColumns];
  std::int32_t multiplier[kGroupColumns];
  std::int64_t bias[kGroupColumns];
  for (std::size_t c = 0; c < kGroupColumns; ++c) {
    multiplier[c] = params.multiplier;
    bias[c] = std::int64_t{1} << (params.shift - 1);
  }
  ColumnGroup<V> group = {};
  group.columns = kGroupColumns;
  group.rescale = make_rescale(params.shift, params.zero_point, OutputType::kU8);
  group.set_factors(multiplier, bias);
  const std::size_t block = tokens <= kTokenChunk ? rows : kCarriedRows;
  for (std::size_t d = 0; d < head_dim; d += kGroupColumns) {
    group.columns = head_dim - d < kGroupColumns ? head_dim - d : kGroupColumns;
    for (std::size_t i = 0; i < rows; i += block) {
      attend_rows<V>(params, group, codes + i * tokens, rows - i < block ? rows - i : block, v + d,
                     tokens, v_stride, b, carry, dst + i * dst_stride + d, dst_stride);
    }
  }
}

}  // namespace
}  // namespace intaglio::kernels
