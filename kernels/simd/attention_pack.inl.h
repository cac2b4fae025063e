// Keys and values of one head as panels of right operands, and where a call of attention keeps
// them. attention_tile.inl.h has the arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/simd/gemm.inl.h"

namespace intaglio::kernels {
namespace {

/// Where the tokens of q, k or v are.
struct TokenRows {
  const std::uint8_t* base;
  std::size_t stride;
  const std::uint32_t* rows;  ///< null: one after the other
  const std::uint8_t* padding;

  [[gnu::always_inline]] const std::uint8_t* operator[](std::size_t token) const noexcept {
    if (rows == nullptr) return base + token * stride;
    return rows[token] == kPaddingRow ? padding : base + rows[token] * stride;
  }
};

/// Where a call keeps what; offsets into its scratch memory.
struct AttentionLayout {
  std::size_t key_groups;    ///< dwords of a key
  std::size_t value_groups;  ///< dwords of a weight row: of four u8 or two s16 tokens
  std::size_t row_bytes;     ///< of a row of scores, whole vectors
  std::size_t vectors;       ///< of a row of scores
  std::size_t keys, column_terms, values, scores, weights, queries, total;
};

template <class V>
inline AttentionLayout lay_out(const AttentionParams& p) noexcept {
  constexpr std::size_t kDepth = kPackDepth<V>;
  AttentionLayout l = {};
  l.key_groups = round_up(p.head_dim, kDepth) / kDepth;
  l.value_groups = round_up(p.tokens, kDepth) / kDepth;
  l.row_bytes =
      round_up(p.tokens, kPanelColumns<V> > kVectorBytes<V> ? kPanelColumns<V> : kVectorBytes<V>);
  l.vectors = round_up(p.tokens, kVectorBytes<V>) / kVectorBytes<V>;
  const std::size_t key_columns = round_up(p.tokens, V::kLanes);
  const std::size_t value_columns = round_up(p.head_dim, V::kLanes);
  const auto take = [&](std::size_t bytes) {
    const std::size_t offset = l.total;
    l.total += round_up(bytes, 64);
    return offset;
  };
  l.keys = take(key_columns * l.key_groups * 4);
  l.column_terms = take(key_columns * 4);
  l.values = take(value_columns * l.value_groups * 4);
  l.scores = take(kTileRows * l.row_bytes);
  l.weights = take((p.interleave ? 4 : 2) * kTileRows * l.row_bytes);
  l.queries = take(V::kBytes ? 0 : kTileRows * kMaxHeadDim * 2);
  return l;
}

template <class V>
std::size_t attention_scratch_bytes(const AttentionParams& params) noexcept {
  return lay_out<V>(params).total;
}

/// Vectors side by side in the panel that holds column `first`.
template <class V>
constexpr std::size_t panel_vectors(std::size_t columns, std::size_t first) noexcept {
  const std::size_t left = columns - first / kPanelColumns<V> * kPanelColumns<V>;
  return left >= kPanelColumns<V> ? V::kTileVectors : round_up(left, V::kLanes) / V::kLanes;
}

/// What is taken off keys to make them right operands.
template <class V>
constexpr std::int32_t key_center(std::int32_t zero_point) noexcept {
  return V::kBytes ? 128 : zero_point;
}

/// sums + the elements of each dword of keys.
template <class V>
[[gnu::always_inline]] inline typename V::I add_key_sums(typename V::I sums,
                                                         typename V::I keys) noexcept {
  if constexpr (V::kBytes) {
    return V::dot_u8s8(sums, V::set1_8(1), keys);
  } else {
    return V::dot_s16(sums, keys, V::set1_16(1));
  }
}

/// z - v of two tokens, a dword a column; the second may be missing.
template <class V>
inline void pack_value_pair(const std::uint8_t* const (&v)[2], std::size_t tokens,
                            std::size_t columns, std::int32_t zero, std::byte* out) noexcept {
  const auto zeros = V::set1_32(zero);
  for (std::size_t c = 0; c < columns; c += V::kLanes) {
    const auto even = V::sub32(zeros, V::load_u8(v[0] + c, columns - c));
    const auto odd = tokens > 1 ? V::sub32(zeros, V::load_u8(v[1] + c, columns - c)) : V::zero();
    V::store(out + c * 4, V::pair_words(even, odd));
  }
}

/// Keys as panels, a token a column, and the columns' terms: -z sum (k - z).
template <class V>
void pack_keys(const AttentionParams& p, const AttentionLayout& l, const TokenRows& k,
               std::byte* scratch) noexcept {
  using I = typename V::I;
  constexpr std::size_t kChannels = V::kLanes * kPackDepth<V>;  // of a vector of dwords
  const std::int32_t zero = p.scores.zero_src;
  const std::int32_t center = key_center<V>(zero);
  auto* terms = reinterpret_cast<std::int32_t*>(scratch + l.column_terms);
  const auto constant = static_cast<std::int32_t>(l.key_groups * kPackDepth<V>) * center -
                        static_cast<std::int32_t>(p.head_dim) * zero;
  for (std::size_t first = 0; first < p.tokens; first += V::kLanes) {
    const std::size_t width = panel_vectors<V>(p.tokens, first);
    const std::size_t panel = first / kPanelColumns<V> * kPanelColumns<V>;
    std::byte* out = scratch + l.keys + panel * l.key_groups * 4 + (first - panel) * 4;
    auto sums = V::zero();
    for (std::size_t d = 0; d < p.head_dim; d += kChannels) {
      I rows[V::kLanes];
      for (std::size_t r = 0; r < V::kLanes; ++r) {
        const std::size_t token = first + r < p.tokens ? first + r : first;
        rows[r] = V::load_keys(k[token] + d, p.head_dim - d, center);
      }
      V::transpose(rows);
      const std::size_t group = d / kPackDepth<V>;
      const std::size_t left = l.key_groups - group;
      for (std::size_t g = 0; g < (left < V::kLanes ? left : V::kLanes); ++g) {
        V::store(out + (group + g) * width * sizeof(I), rows[g]);
        sums = add_key_sums<V>(sums, rows[g]);
      }
    }
    const auto total = V::add32(sums, V::set1_32(constant));
    V::store(terms + first, V::mullo32(total, V::set1_32(-zero)));
  }
}

/// Values as panels, a channel a column: v - 128 of four tokens, or z - v of two.
template <class V>
void pack_values(const AttentionParams& p, const TokenRows& v, std::byte* out) noexcept {
  constexpr std::size_t kDepth = kPackDepth<V>;
  for (std::size_t c = 0; c < p.head_dim; c += kPanelColumns<V>) {
    const std::size_t left = p.head_dim - c;
    const std::size_t columns = left < kPanelColumns<V> ? left : kPanelColumns<V>;
    for (std::size_t t = 0; t < p.tokens; t += kDepth) {
      const std::size_t tokens = p.tokens - t < kDepth ? p.tokens - t : kDepth;
      const std::uint8_t* at[kDepth];
      for (std::size_t i = 0; i < kDepth; ++i) at[i] = v[t + (i < tokens ? i : 0)] + c;
      if constexpr (V::kBytes) {
        V::pack_values(at, tokens, columns, out);
      } else {
        pack_value_pair<V>(at, tokens, columns, p.attend.zero_src, out);
      }
      out += round_up(columns, V::kLanes) * 4;
    }
  }
}

}  // namespace
}  // namespace intaglio::kernels
