// The one function compiled for AVX-512 VNNI: nothing else may be in this object.
#include <immintrin.h>

#include "bench/kernels/peak.h"

namespace intaglio::bench {

std::uint64_t run_peak(std::uint64_t macs) noexcept {
  // Twenty chains hide the latency of two instructions per cycle, five cycles each, twice over.
  constexpr std::uint64_t kChains = 20;
  const __m512i a = _mm512_setzero_si512();
  __m512i c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a, c8 = a, c9 = a;
  __m512i d0 = a, d1 = a, d2 = a, d3 = a, d4 = a, d5 = a, d6 = a, d7 = a, d8 = a, d9 = a;
  const std::uint64_t turns = macs / (64 * kChains) + 1;
  for (std::uint64_t i = 0; i < turns; ++i) {
    // Statements of assembly are neither merged nor moved out of the loop.
    const auto five = [&](__m512i& p, __m512i& q, __m512i& r, __m512i& s, __m512i& t) {
      asm volatile(
          "vpdpbusd %5, %5, %0\n\tvpdpbusd %5, %5, %1\n\tvpdpbusd %5, %5, %2\n\t"
          "vpdpbusd %5, %5, %3\n\tvpdpbusd %5, %5, %4"
          : "+v"(p), "+v"(q), "+v"(r), "+v"(s), "+v"(t)
          : "v"(a));
    };
    five(c0, c1, c2, c3, c4);
    five(c5, c6, c7, c8, c9);
    five(d0, d1, d2, d3, d4);
    five(d5, d6, d7, d8, d9);
  }
  return turns * 64 * kChains;
}

}  // namespace intaglio::bench
