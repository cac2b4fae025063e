// peak_mac: sum of 1 * 1, modulo 2^32. The compiler must not know that the factors are constant.
#include "kernels/scalar/scalar.h"

namespace intaglio::kernels::scalar {

std::uint32_t peak_mac(std::size_t rounds) noexcept {
  std::uint32_t factor = 1;
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < rounds * kPeakMacsPerRound; ++i) {
    __asm__ volatile("" : "+r"(factor));
    sum += factor * factor;
  }
  return sum;
}

}  // namespace intaglio::kernels::scalar
