// Rows of scores to codes and weights; the arithmetic is that of kernels/scalar/attention.cpp.
//
// Log-Int-Softmax by ranks instead of by elements. The code of an element depends on its
// exponential e and on its row's sum S alone:
//   code >= k + 1  iff  2 S >= (3 * 2^k - 1) e  iff  e <= T_k,  T_k = floor(2 S / (3 * 2^k - 1))
// with the one strict comparison 2 S > 5 e, e <= T_1 = floor((2 S - 1) / 5). (For k = 0 the factor
// is 3.) The thresholds fall with k, so a code is the number of k in 0..15 with e <= T_k.
//
// The 256 exponentials are sorted at load, largest first; rank[d] is the place of e(d). Then
// e <= T_k iff rank >= R_k, the number of exponentials above T_k. A row costs one sum, 16 divisions
// by constants, 16 lookups of R_k by the leading bits of T_k, and a binary search of each rank
// among the 16 limits, on bytes. A table that falls already needs no ranks: rank[d] = d.
//
// Where bytes can be looked up in 256 entries (V::kByteTables), the sum is made of byte planes: the
// planes' bytes are added by a dot product with ones, three planes to a dword (4 * 4 * 255 * 2^16 <
// 2^28), and widened.
//
// Uniform codes depend on d alone once the row's sum is known, and fall with d: a row costs one
// sum, one division, a product for each d until the codes are 0, and a table of 256 codes to look
// the row up in.
//
// Weights, 2^(unit - code), are looked up as bytes: their upper and their lower halves. Levels with
// byte products keep them in two planes; others join them to -2^(unit - code) in s16, which reaches
// -2^15 where +2^15 would not fit. Uniform codes are their weights: one plane, or positive s16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/simd/tile.inl.h"

namespace intaglio::kernels {
namespace {

inline constexpr std::size_t kCodeSteps = 16;
inline constexpr std::size_t kBucketBits = 5;  // behind the leading one
inline constexpr std::size_t kBuckets = std::size_t{64} << kBucketBits;
inline constexpr std::size_t kPlaneGroup = 3;
inline constexpr std::size_t kPlanes = 9;  // of 64 bits, in groups of three

/// What softmax_prepare makes of SoftmaxParams.
struct SoftmaxTable {
  std::uint64_t reversed[256];        ///< e(255 - i): row maximum and score then index by a sum
  std::uint64_t falling[512];         ///< the different ones, sorted; then zeros
  std::uint16_t ranks[257];           ///< how many exponentials are above the i-th different one
  std::uint16_t above[kBuckets];      ///< how many different ones are in higher buckets
  std::uint8_t planes[kPlanes][256];  ///< byte i of e(d)
  std::uint8_t map[256];              ///< of d: rank, or code of a row-relative softmax
  std::uint8_t map_reversed[256];     ///< of 255 - d
  std::int32_t falling_words[256];    ///< e(d) of a uniform softmax
  std::uint8_t high[16], low[16];     ///< bytes of a code's weight
  std::size_t plane_groups;
  std::size_t crowd;  ///< different ones in the fullest bucket
  bool identity;      ///< map[d] == d
};
static_assert(sizeof(SoftmaxTable) <= kSoftmaxTableBytes);

/// The bucket of a positive number: its highest bit and the kBucketBits behind it.
inline std::size_t bucket_of(std::uint64_t x) noexcept {
  const int zeros = __builtin_clzll(x);
  return (static_cast<std::size_t>(62 - zeros) << kBucketBits) +
         static_cast<std::size_t>((x << zeros) >> (63 - kBucketBits));
}

/// Fills falling, ranks, map.
inline void sort_exponentials(const std::uint64_t* e, SoftmaxTable& t) noexcept {
  std::uint8_t order[256];
  for (std::size_t d = 0; d < 256; ++d) {
    std::size_t i = d;
    for (; i > 0 && e[order[i - 1]] < e[d]; --i) order[i] = order[i - 1];
    order[i] = static_cast<std::uint8_t>(d);
  }
  std::size_t different = 0;
  for (std::size_t i = 0; i < 256; ++i) {
    t.map[order[i]] = static_cast<std::uint8_t>(i);
    if (i > 0 && e[order[i]] == e[order[i - 1]]) continue;
    t.ranks[different] = static_cast<std::uint16_t>(i);
    t.falling[different++] = e[order[i]];
  }
  for (std::size_t i = different; i < 257; ++i) t.ranks[i] = 256;
  for (std::size_t i = different; i < 512; ++i) t.falling[i] = 0;
}

inline void index_buckets(SoftmaxTable& t) noexcept {
  std::size_t count = 0;
  t.crowd = 0;
  for (std::size_t bucket = kBuckets; bucket-- > 0;) {
    t.above[bucket] = static_cast<std::uint16_t>(count);
    const std::size_t before = count;
    while (t.falling[count] != 0 && bucket_of(t.falling[count]) == bucket) ++count;
    t.crowd = count - before > t.crowd ? count - before : t.crowd;
  }
}

/// Fills what rows are summed by.
inline void prepare_sums(const std::uint64_t* e, SoftmaxTable& t) noexcept {
  std::uint64_t any = 0;
  for (std::size_t d = 0; d < 256; ++d) {
    t.reversed[255 - d] = e[d];
    any |= e[d];
    for (std::size_t p = 0; p < kPlanes; ++p) {
      t.planes[p][d] = p < 8 ? static_cast<std::uint8_t>(e[d] >> (8 * p)) : std::uint8_t{0};
    }
  }
  t.plane_groups = 1;
  while (t.plane_groups < kPlanes / kPlaneGroup && any >> (24 * t.plane_groups) != 0) {
    ++t.plane_groups;
  }
}

/// A code's weight as the level multiplies with it.
template <class V>
inline void weigh_codes(const SoftmaxParams& params, SoftmaxTable& t) noexcept {
  for (int c = 0; c < 16; ++c) {
    const bool some = c < params.zero_code && c <= params.unit_bits;
    const int power = some ? 1 << (params.unit_bits - c) : 0;
    const int weight = params.weights != nullptr ? params.weights[c] : power;
    const auto word = static_cast<std::uint16_t>(V::kBytes ? weight : -weight);
    t.high[c] = static_cast<std::uint8_t>(word >> 8);
    t.low[c] = static_cast<std::uint8_t>(word & 0xff);
  }
}

template <class V>
void softmax_prepare(const SoftmaxParams& params, std::byte* prepared) noexcept {
  auto& t = *reinterpret_cast<SoftmaxTable*>(prepared);
  if (params.form != SoftmaxForm::kRowRelative) prepare_sums(params.exponentials, t);
  if (params.form == SoftmaxForm::kUniform) {
    for (std::size_t d = 0; d < 256; ++d) {
      t.falling_words[d] = static_cast<std::int32_t>(params.exponentials[d]);
    }
    return;
  }
  if (params.form == SoftmaxForm::kLogInt) {
    sort_exponentials(params.exponentials, t);
    index_buckets(t);
  } else {
    for (std::size_t d = 0; d < 256; ++d) t.map[d] = params.codes[d] < 15 ? params.codes[d] : 15;
  }
  t.identity = true;
  for (std::size_t d = 0; d < 256; ++d) {
    t.map_reversed[255 - d] = t.map[d];
    t.identity = t.identity && t.map[d] == d;
  }
  weigh_codes<V>(params, t);
}

/// R_k for k = 0..15, in limits; those that no u8 rank can reach are left out of the returned
/// number. No bucket holds more than kCrowd different exponentials (0: `crowd`). There is no
/// branch, so that the 16 lookups of a row run side by side.
template <std::size_t kCrowd>
inline std::size_t rank_limits(const SoftmaxTable& t, std::uint64_t sum,
                               std::uint8_t* limits) noexcept {
  const std::uint64_t twice = 2 * sum;
  std::size_t count = 0;
  const auto put = [&](std::size_t k, std::uint64_t threshold) INTAGLIO_INLINE {
    std::size_t larger = t.above[bucket_of(threshold | 1)];
    const std::uint64_t* crowd = t.falling + larger;
    for (std::size_t i = 0; i < (kCrowd == 0 ? t.crowd : kCrowd); ++i) {
      larger += crowd[i] > threshold;
    }
    const std::size_t limit = t.ranks[larger];
    count += limit <= UINT8_MAX;
    limits[k] = static_cast<std::uint8_t>(limit < UINT8_MAX ? limit : UINT8_MAX);
  };
  put(0, twice / 3);
  put(1, (twice - 1) / 5);
  unroll<kCodeSteps - 2>(
      [&](auto i) INTAGLIO_INLINE { put(i + 2, twice / ((std::uint64_t{3} << (i + 2)) - 1)); });
  return count;
}

/// A tile's rows of scores, each `vectors` byte vectors long; behind `tokens` they are zero.
struct ScoreRows {
  std::uint8_t* scores;  ///< in: scores; out: codes, where they are asked for
  std::size_t stride;
  std::size_t tokens;
  std::size_t vectors;
};

template <class V>
inline std::uint8_t row_maximum(const std::uint8_t* row, std::size_t vectors) noexcept {
  auto best = V::load(row);
  for (std::size_t i = 1; i < vectors; ++i) {
    best = V::max_u8(best, V::load(row + i * kVectorBytes<V>));
  }
  return V::maximum_u8(best);
}

/// Sum of e[scores[j]].
inline std::uint64_t sum_of(const std::uint64_t* e, const std::uint8_t* scores,
                            std::size_t cols) noexcept {
  std::uint64_t even = 0;
  std::uint64_t odd = 0;
  std::size_t j = 0;
  for (; j + 8 <= cols; j += 8) {
    std::uint64_t word;
    std::memcpy(&word, scores + j, sizeof word);
    even += e[word & 0xff] + e[word >> 16 & 0xff] + e[word >> 32 & 0xff] + e[word >> 48 & 0xff];
    odd += e[word >> 8 & 0xff] + e[word >> 24 & 0xff] + e[word >> 40 & 0xff] + e[word >> 56];
  }
  for (; j < cols; ++j) even += e[scores[j]];
  return even + odd;
}

/// The same by byte planes. Four vectors at a time fill a dword at most to 2^28. The bytes behind
/// the tokens are summed as tokens of score 0, and taken off again.
template <class V>
inline std::uint64_t sum_planes(const SoftmaxTable& t, const std::uint8_t* row, std::size_t vectors,
                                std::size_t tokens, std::uint8_t maximum) noexcept {
  constexpr std::size_t kTogether = 4;
  const auto from = V::set1_8(maximum);
  const auto ones = V::set1_8(1);
  const auto lower_halves = V::set1_64(0xffffffff);
  auto total = V::zero();
  for (std::size_t i = 0; i < vectors; i += kTogether) {
    typename V::I distance[kTogether];
    const std::size_t here = vectors - i < kTogether ? vectors - i : kTogether;
    unroll<kTogether>([&](auto n) INTAGLIO_INLINE {
      const std::size_t at = n < here ? i + n : i;
      distance[n] = V::sub8(from, V::load(row + at * kVectorBytes<V>));
    });
    for (std::size_t g = 0; g < t.plane_groups; ++g) {
      auto joined = V::zero();
      unroll<kPlaneGroup>([&](auto p) INTAGLIO_INLINE {
        const auto plane = V::load_table256(t.planes[g * kPlaneGroup + p]);
        auto sums = V::zero();
        unroll<kTogether>([&](auto n) INTAGLIO_INLINE {
          if (n == 0 || n < here) {
            sums = V::dot_u8s8(sums, V::lookup256(plane, distance[n]), ones);
          }
        });
        joined = V::add32(joined, V::sll32(sums, 8 * static_cast<int>(p)));
      });
      const auto wide = V::add64(V::and_bits(joined, lower_halves), V::odd(joined));
      total = V::add64(total, V::sll64(wide, 24 * static_cast<int>(g)));
    }
  }
  const std::size_t padding = vectors * kVectorBytes<V> - tokens;
  return static_cast<std::uint64_t>(V::sum_s64(total)) - padding * t.reversed[255 - maximum];
}

/// Sum of a row's exponentials.
template <class V>
inline std::uint64_t row_sum(const SoftmaxTable& t, const ScoreRows& s, const std::uint8_t* row,
                             std::uint8_t maximum) noexcept {
  if constexpr (V::kByteTables) {
    return sum_planes<V>(t, row, s.vectors, s.tokens, maximum);
  } else {
    return sum_of(t.reversed + (255 - maximum), row, s.tokens);
  }
}

/// ranks -> codes: how many of the `count` <= 16 rising limits each byte reaches.
template <class V>
struct CodeSearch {
  typename V::I middle, last, quarter, eighth, sixteenth, count;

  CodeSearch(const std::uint8_t* limits, std::size_t reachable) noexcept
      : middle(V::set1_8(limits[7])),
        last(V::set1_8(limits[15])),
        quarter(V::load_table16(limits + 3)),
        eighth(V::load_table16(limits + 1)),
        sixteenth(V::load_table16(limits)),
        count(V::set1_8(static_cast<std::uint8_t>(reachable))) {}

  [[gnu::always_inline]] typename V::I codes(typename V::I rank) const noexcept {
    auto c = V::add_if_reaches_u8(V::zero(), rank, middle, V::set1_8(8));
    c = V::add_if_reaches_u8(c, rank, V::lookup16(quarter, c), V::set1_8(4));
    c = V::add_if_reaches_u8(c, rank, V::lookup16(eighth, c), V::set1_8(2));
    c = V::add_if_reaches_u8(c, rank, V::lookup16(sixteenth, c), V::set1_8(1));
    c = V::add_if_reaches_u8(c, rank, last, V::set1_8(1));
    // Limits beyond a byte are cut to 255: a rank of 255 reaches all that any byte can.
    return V::min_u8(c, count);
  }
};

/// map[row maximum - score] of a row, in place, where the level cannot look it up in registers.
template <class V>
inline void map_row(const SoftmaxTable& t, std::uint8_t maximum, std::uint8_t* row,
                    std::size_t tokens) noexcept {
  const std::uint8_t* map = t.map_reversed + (255 - maximum);
  for (std::size_t j = 0; j < tokens; ++j) row[j] = map[row[j]];
}

/// map[row maximum - score] of vector `i`; where map_row() was needed, it has been done.
template <class V>
[[gnu::always_inline]] inline typename V::I mapped(const SoftmaxTable& t, std::uint8_t maximum,
                                                   const std::uint8_t* row,
                                                   std::size_t i) noexcept {
  const auto bytes = V::load(row + i * kVectorBytes<V>);
  if constexpr (V::kByteTables) {
    const auto distance = V::sub8(V::set1_8(maximum), bytes);
    return t.identity ? distance : V::lookup256(V::load_table256(t.map), distance);
  } else {
    return t.identity ? V::sub8(V::set1_8(maximum), bytes) : bytes;
  }
}

/// Uniform codes of d = 0..255 in a row whose factor is `factor`. Returns where only zeros follow.
template <class V>
inline std::size_t uniform_map(const SoftmaxTable& t, std::uint64_t factor,
                               std::uint8_t* map) noexcept {
  const auto factors = V::set1_64(static_cast<std::int64_t>(factor));
  const auto half = V::set1_64(std::int64_t{1} << 31);
  const auto largest = V::set1_32(255);
  std::size_t d = 0;
  do {  // the codes fall: behind a 0 there are only more
    const auto e = V::load(t.falling_words + d);
    const auto even = V::add64(V::mul_even(e, factors), half);
    const auto odd = V::add64(V::mul_even(V::odd(e), factors), half);
    V::store_u8(map + d, V::min32(V::merge_high(even, odd), largest), V::kLanes);
    d += V::kLanes;
  } while (d < 256 && map[d - 1] != 0);
  std::memset(map + d, 0, 256 - d);
  return d;
}

/// map[distance], where all codes from `end` on are 0.
template <class V>
[[gnu::always_inline]] inline typename V::I uniform_codes(const std::uint8_t* map, std::size_t end,
                                                          typename V::I distance) noexcept {
  if constexpr (V::kByteTables) {
    return V::lookup256(V::load_table256(map), distance);
  } else {  // sixteen at a time; beyond them, on either side, 0x80 looks up 0
    auto codes = V::zero();
    for (std::size_t first = 0; first < end; first += 16) {
      const auto place = V::sub8(distance, V::set1_8(static_cast<std::uint8_t>(first)));
      const auto index = V::add8(V::min_u8(place, V::set1_8(16)), V::set1_8(0x70));
      codes = V::add8(codes, V::lookup16(V::load_table16(map + first), index));
    }
    return codes;
  }
}

/// Scores of `rows` rows become codes of a uniform softmax, in place.
template <class V>
inline void make_uniform_codes(const SoftmaxParams& params, const SoftmaxTable& t,
                               const ScoreRows& s, std::size_t rows) noexcept {
  std::uint8_t maximum[kTileRows];
  std::size_t end[kTileRows];
  alignas(64) std::uint8_t map[kTileRows][256];
  for (std::size_t r = 0; r < rows; ++r) {
    const std::uint8_t* row = s.scores + r * s.stride;
    maximum[r] = row_maximum<V>(row, s.vectors);
    const std::uint64_t factor = params.probability_factor / row_sum<V>(t, s, row, maximum[r]);
    end[r] = uniform_map<V>(t, factor, map[r]);
  }
  for (std::size_t r = 0; r < rows; ++r) {
    std::uint8_t* row = s.scores + r * s.stride;
    for (std::size_t i = 0; i < s.vectors; ++i) {
      std::uint8_t* at = row + i * kVectorBytes<V>;
      const auto distance = V::sub8(V::set1_8(maximum[r]), V::load(at));
      V::store(at, uniform_codes<V>(map[r], end[r], distance));
    }
  }
}

/// Scores of `rows` rows become codes, in place; 0..16.
template <class V>
inline void make_codes(const SoftmaxParams& params, const SoftmaxTable& t, const ScoreRows& s,
                       std::size_t rows) noexcept {
  std::uint8_t maximum[kTileRows];
  std::uint64_t sum[kTileRows];
  alignas(16) std::uint8_t limits[kTileRows][kCodeSteps + 16];
  std::size_t count[kTileRows];
  const bool log_int = params.form == SoftmaxForm::kLogInt;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::uint8_t* row = s.scores + r * s.stride;
    maximum[r] = row_maximum<V>(row, s.vectors);
    if (log_int) sum[r] = row_sum<V>(t, s, row, maximum[r]);
  }
  if (log_int) {
    const auto find = t.crowd <= 1   ? rank_limits<1>
                      : t.crowd <= 2 ? rank_limits<2>
                      : t.crowd <= 4 ? rank_limits<4>
                                     : rank_limits<0>;
    for (std::size_t r = 0; r < rows; ++r) count[r] = find(t, sum[r], limits[r]);
  }
  for (std::size_t r = 0; r < rows; ++r) {
    std::uint8_t* row = s.scores + r * s.stride;
    if (!V::kByteTables && !t.identity) map_row<V>(t, maximum[r], row, s.tokens);
    if (!log_int) {
      for (std::size_t i = 0; i < s.vectors; ++i) {
        V::store(row + i * kVectorBytes<V>, mapped<V>(t, maximum[r], row, i));
      }
      continue;
    }
    const CodeSearch<V> search(limits[r], count[r]);
    for (std::size_t i = 0; i < s.vectors; ++i) {
      V::store(row + i * kVectorBytes<V>, search.codes(mapped<V>(t, maximum[r], row, i)));
    }
  }
}

/// Added to a code, makes the index of its weight in a table of 16: kZeroCode becomes 0x80, which
/// looks up 0.
inline constexpr std::uint8_t kZeroBehind = 0x70;

/// Weights of codes. kBytes: two planes of u8, `plane` bytes apart, upper half first; else s16,
/// negated. Behind the tokens they are zero. Returns the sum of the row's weights.
template <class V>
inline std::int32_t make_weights(const SoftmaxTable& t, const std::uint8_t* codes,
                                 std::size_t vectors, typename V::I last_mask, std::byte* dst,
                                 std::size_t plane) noexcept {
  const auto high_table = V::load_table16(t.high);
  const auto low_table = V::load_table16(t.low);
  const auto offset = V::set1_8(kZeroBehind);
  auto high_sums = V::zero();
  auto low_sums = V::zero();
  for (std::size_t i = 0; i < vectors; ++i) {
    const auto index = V::add8(V::load(codes + i * kVectorBytes<V>), offset);
    auto high = V::lookup16(high_table, index);
    auto low = V::lookup16(low_table, index);
    if (i + 1 == vectors) {
      high = V::and_bits(high, last_mask);
      low = V::and_bits(low, last_mask);
    }
    if constexpr (V::kBytes) {
      V::store(dst + i * kVectorBytes<V>, high);
      V::store(dst + plane + i * kVectorBytes<V>, low);
      high_sums = V::dot_u8s8(high_sums, high, V::set1_8(1));
      low_sums = V::dot_u8s8(low_sums, low, V::set1_8(1));
    } else {
      typename V::I words[2];
      V::join_bytes(low, high, words);
      V::store(dst + 2 * i * kVectorBytes<V>, words[0]);
      V::store(dst + (2 * i + 1) * kVectorBytes<V>, words[1]);
      low_sums = V::dot_s16(low_sums, words[0], V::set1_16(1));
      low_sums = V::dot_s16(low_sums, words[1], V::set1_16(1));
    }
  }
  if constexpr (V::kBytes) return V::sum_s32(V::add32(V::sll32(high_sums, 8), low_sums));
  return -V::sum_s32(low_sums);
}

/// Uniform codes as weights: u8 in the lower plane, or s16. Otherwise like make_weights().
template <class V>
inline std::int32_t copy_weights(const std::uint8_t* codes, std::size_t vectors,
                                 typename V::I last_mask, std::byte* dst,
                                 std::size_t plane) noexcept {
  auto sums = V::zero();
  for (std::size_t i = 0; i < vectors; ++i) {
    auto bytes = V::load(codes + i * kVectorBytes<V>);
    if (i + 1 == vectors) bytes = V::and_bits(bytes, last_mask);
    if constexpr (V::kBytes) {
      V::store(dst + plane + i * kVectorBytes<V>, bytes);
      sums = V::dot_u8s8(sums, bytes, V::set1_8(1));
    } else {
      typename V::I words[2];
      V::join_bytes(bytes, V::zero(), words);
      V::store(dst + 2 * i * kVectorBytes<V>, words[0]);
      V::store(dst + (2 * i + 1) * kVectorBytes<V>, words[1]);
      sums = V::dot_s16(sums, words[0], V::set1_16(1));
      sums = V::dot_s16(sums, words[1], V::set1_16(1));
    }
  }
  return V::sum_s32(sums);
}

}  // namespace
}  // namespace intaglio::kernels
