// The ceiling of the register tile: as many independent sums, fed by the same instruction, with
// both factors in registers. VNNI: one vpdpbusd is 4 products per dword. Without it the exact path
// is vpmaddwd on s16 and vpaddd: 2 products per dword for two instructions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/simd/tile.inl.h"

namespace intaglio::kernels {
namespace {

template <class V>
using PeakDot = std::conditional_t<V::kBytes, DotBytes<V>, DotWords<V>>;

template <class V>
inline constexpr std::size_t kPeakSums = kTileRows* V::kTileVectors;

template <class V>
inline constexpr std::size_t kPeakMacsPerRound = kPeakSums<V>* V::kLanes* PeakDot<V>::kDepth;

/// The sum counts its own products: a lost or repeated one would show.
template <class V>
std::uint32_t peak_mac(std::size_t rounds) noexcept {
  using I = typename V::I;
  I factor = V::kBytes ? V::set1_8(1) : V::set1_16(1);
  const I one = factor;
  I sums[kPeakSums<V>];
  unroll<kPeakSums<V>>([&](auto i) INTAGLIO_INLINE { sums[i] = V::zero(); });
  for (; rounds != 0; --rounds) {
    unroll<kPeakSums<V>>([&](auto i) INTAGLIO_INLINE {
      sums[i] = PeakDot<V>::run(sums[i], factor, one);
      // For all the compiler knows, both changed: no product is reused, no sum is moved elsewhere.
      __asm__ volatile("" : "+v"(factor), "+v"(sums[i]));
    });
  }
  I sum = V::zero();
  unroll<kPeakSums<V>>([&](auto i) INTAGLIO_INLINE { sum = V::add32(sum, sums[i]); });
  return static_cast<std::uint32_t>(V::sum_s32(sum));
}

}  // namespace
}  // namespace intaglio::kernels
