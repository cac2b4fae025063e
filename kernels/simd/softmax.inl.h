// Log-Int-Softmax by ranks instead of by elements.
//
// The code of an element depends on its exponential e and on its row's sum S alone:
//   code >= k + 1  iff  2 S >= (3 * 2^k - 1) e  iff  e <= T_k,  T_k = floor(2 S / (3 * 2^k - 1))
// with the one strict comparison 2 S > 5 e, e <= T_1 = floor((2 S - 1) / 5). (For k = 0 the factor
// is 3.) The thresholds fall with k, so a code is the number of k in 0..15 with e <= T_k.
//
// Per call the 256 exponentials are sorted, largest first; rank[d] is the place of e(d). Then
// e <= T_k iff rank >= R_k, the number of exponentials above T_k, and a row costs one sum, 16
// divisions by constants, 16 short binary searches and 16 byte comparisons per element. A table
// that falls already, as every exact one does, needs no ranks: rank[d] = d. Tables whose integer
// pieces do not join smoothly are nearly sorted, which insertion sort likes; the result is exact
// for any.
//
// Ranges: as in the scalar definition, 2 S < 2^63.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/simd/tile.inl.h"

namespace intaglio::kernels {
namespace {

inline constexpr std::size_t kCodeSteps = 16;

struct SortedExponentials {
  std::uint64_t reversed[256];  ///< e(255 - i): row maximum and score then index by a sum
  std::uint64_t falling[512];   ///< sorted; zeros behind the 256, which no threshold is below
  std::uint16_t octave[64];     ///< how many are >= 2^(p+1)
  std::size_t steps;            ///< of a binary search in the longest octave
  std::uint8_t rank_reversed[256];
  bool in_order;  ///< rank[d] == d
};

inline void sort_exponentials(const std::uint64_t* e, SortedExponentials& sorted) noexcept {
  std::uint8_t place[256];
  sorted.in_order = true;
  for (std::size_t d = 0; d < 256; ++d) {
    sorted.reversed[255 - d] = e[d];
    sorted.falling[256 + d] = 0;
    std::size_t i = d;
    for (; i > 0 && sorted.falling[i - 1] < e[d]; --i) {
      sorted.falling[i] = sorted.falling[i - 1];
      place[i] = place[i - 1];
      sorted.in_order = false;
    }
    sorted.falling[i] = e[d];
    place[i] = static_cast<std::uint8_t>(d);
  }
  for (std::size_t i = 0; i < 256; ++i) {
    sorted.rank_reversed[255 - place[i]] = static_cast<std::uint8_t>(i);
  }
}

/// Thresholds with highest bit p have the exponentials >= 2^(p+1) above them and none below 2^p:
/// only the octave between is searched.
inline void index_octaves(SortedExponentials& sorted) noexcept {
  std::size_t count = 0;
  std::size_t longest = 0;
  for (std::size_t p = 64; p-- > 0;) {
    sorted.octave[p] = static_cast<std::uint16_t>(count);
    const std::size_t before = count;
    // The lowest octave is that of the thresholds 0 and 1: all that is not zero may be above.
    const std::uint64_t least = std::uint64_t{1} << p;
    while (count < 256 && sorted.falling[count] >= least) ++count;
    longest = count - before > longest ? count - before : longest;
  }
  sorted.steps = 0;
  while ((std::size_t{1} << sorted.steps) <= longest) ++sorted.steps;
}

/// How many exponentials are above `threshold`: 0..256. The longest octave has fewer than 2^kSteps.
/// A fixed number of steps without branches, so that the 16 searches of a row run side by side.
template <std::size_t kSteps>
inline std::size_t count_above(const SortedExponentials& sorted, std::uint64_t threshold) noexcept {
  std::size_t count = sorted.octave[63 - __builtin_clzll(threshold | 1)];
  unroll<kSteps>([&](auto i) INTAGLIO_INLINE {
    constexpr std::size_t kStep = std::size_t{1} << (kSteps - 1 - i);
    count += sorted.falling[count + kStep - 1] > threshold ? kStep : 0;
  });
  return count;
}

/// R_k for k = 0..15, as far as a u8 rank can reach them; returns how many.
template <std::size_t kSteps>
inline std::size_t rank_limits(const SortedExponentials& sorted, std::uint64_t sum,
                               std::uint8_t* limits) noexcept {
  const std::uint64_t twice = 2 * sum;
  std::size_t count = 0;
  const auto put = [&](std::size_t k, std::uint64_t threshold) INTAGLIO_INLINE {
    const std::size_t limit = count_above<kSteps>(sorted, threshold);
    limits[k] = static_cast<std::uint8_t>(limit);
    count += limit <= UINT8_MAX;
  };
  put(0, twice / 3);
  put(1, (twice - 1) / 5);
  unroll<kCodeSteps - 2>(
      [&](auto i) INTAGLIO_INLINE { put(i + 2, twice / ((std::uint64_t{3} << (i + 2)) - 1)); });
  return count;
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

template <class V>
inline std::uint8_t row_maximum(const std::uint8_t* src, std::size_t cols) noexcept {
  auto best = V::zero();
  for (std::size_t j = 0; j < cols; j += V::kLanes * 4) {
    best = V::max_u8(best, V::load_bytes(src + j, cols - j));
  }
  std::uint8_t bytes[V::kLanes * 4];
  V::store(bytes, best);
  std::uint8_t maximum = 0;
  for (const std::uint8_t b : bytes) maximum = b > maximum ? b : maximum;
  return maximum;
}

/// dst = how many limits each rank reaches.
template <class V>
inline void count_limits(const std::uint8_t* src, std::uint8_t flip_from, bool flip,
                         const std::uint8_t* limits, std::size_t count, std::size_t cols,
                         std::uint8_t* dst) noexcept {
  const auto from = V::set1_8(flip_from);
  typename V::I steps[kCodeSteps];
  for (std::size_t k = 0; k < count; ++k) steps[k] = V::set1_8(limits[k]);
  for (std::size_t j = 0; j < cols; j += V::kLanes * 4) {
    const auto bytes = V::load_bytes(src + j, cols - j);
    const auto rank = flip ? V::sub8(from, bytes) : bytes;
    auto codes = V::zero();
    for (std::size_t k = 0; k < count; ++k) codes = V::count_if_reaches_u8(codes, rank, steps[k]);
    V::store_bytes(dst + j, codes, cols - j);
  }
}

template <class V>
void softmax_log2(const SoftmaxParams& params, const std::uint8_t* src, std::size_t rows,
                  std::size_t cols, std::uint8_t* dst) noexcept {
  SortedExponentials sorted;
  sort_exponentials(params.exponentials, sorted);
  index_octaves(sorted);
  // Models' scales put 3 to 30 exponentials into an octave.
  const auto find_limits = sorted.steps <= 3   ? rank_limits<3>
                           : sorted.steps <= 5 ? rank_limits<5>
                                               : rank_limits<9>;
  for (std::size_t i = 0; i < rows; ++i) {
    const std::uint8_t* scores = src + i * cols;
    std::uint8_t* codes = dst + i * cols;
    const std::uint8_t maximum = row_maximum<V>(scores, cols);
    const std::uint64_t* e = sorted.reversed + (255 - maximum);
    std::uint8_t limits[kCodeSteps];
    const std::size_t count = find_limits(sorted, sum_of(e, scores, cols), limits);
    if (sorted.in_order) {
      count_limits<V>(scores, maximum, true, limits, count, cols, codes);
    } else {
      const std::uint8_t* rank = sorted.rank_reversed + (255 - maximum);
      for (std::size_t j = 0; j < cols; ++j) codes[j] = rank[scores[j]];
      count_limits<V>(codes, 0, false, limits, count, cols, codes);
    }
  }
}

}  // namespace
}  // namespace intaglio::kernels
