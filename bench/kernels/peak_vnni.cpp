// The one function compiled for AVX-512 VNNI: nothing else may be in this object.
#include "bench/kernels/peak.h"

namespace intaglio::bench {

std::uint64_t run_peak(std::uint64_t macs) noexcept {
  // Sixteen chains hide the latency of two instructions per cycle, five cycles each.
  constexpr std::uint64_t kChains = 16;
  const std::uint64_t turns = macs / (64 * kChains) + 1;
  std::uint64_t left = turns;
  asm volatile(
      "vpxord %%zmm0, %%zmm0, %%zmm0\n\t"
      ".p2align 6\n"
      "1:\n\t"
      ".irp chain, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16\n\t"
      "vpdpbusd %%zmm0, %%zmm0, %%zmm\\chain\n\t"
      ".endr\n\t"
      "dec %0\n\t"
      "jnz 1b\n\t"
      "vzeroupper"
      : "+r"(left)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16");
  return turns * 64 * kChains;
}

}  // namespace intaglio::bench
