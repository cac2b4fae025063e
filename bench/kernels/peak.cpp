#include "bench/kernels/peak.h"

#include <algorithm>
#include <chrono>

#include "kernels/cpu.h"

namespace intaglio::bench {

bool has_peak() noexcept {
  return kernels::cpu_supports(kernels::Isa::kAvx512Vnni);
}

double measure_peak(int rounds) {
  double best = 0;
  for (int i = 0; i < rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const std::uint64_t macs = run_peak(150'000'000);
    const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(macs) / spent.count());
  }
  return best;
}

}  // namespace intaglio::bench
