#include "bench/peak.h"

#include <algorithm>
#include <chrono>

#include "bench/statistics.h"
#include "graph/error.h"

namespace intaglio {
namespace {

kernels::Isa held_against(kernels::Isa isa) {
  return isa == kernels::Isa::kScalar ? kernels::best_isa() : isa;
}

double seconds_of(const kernels::KernelTable& table, std::size_t rounds) {
  const auto start = std::chrono::steady_clock::now();
  const std::uint32_t sum = table.peak_mac(rounds);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  if (sum != static_cast<std::uint32_t>(rounds * table.peak_macs_per_round)) {
    throw Error(ErrorCode::kIntegrity, "the peak loop did not do its work");
  }
  return time.count();
}

}  // namespace

void PeakMeter::visit(kernels::Isa isa) {
  const kernels::KernelTable& table = kernels::table_of(held_against(isa));
  constexpr double kBurst = 0.5e-3;  // short: some of them run undisturbed
  constexpr int kBursts = 8;
  std::size_t rounds = 1024;
  while (seconds_of(table, rounds) < kBurst) rounds *= 2;
  double fastest = seconds_of(table, rounds);
  for (int i = 1; i < kBursts; ++i) fastest = std::min(fastest, seconds_of(table, rounds));
  visits_[table.isa].push_back(static_cast<double>(rounds * table.peak_macs_per_round) / fastest);
}

double PeakMeter::best(kernels::Isa isa) const {
  const std::vector<double>& visits = visits_.at(held_against(isa));
  return *std::max_element(visits.begin(), visits.end());
}

double PeakMeter::spread(kernels::Isa isa) const {
  return 1 - median(visits_.at(held_against(isa))) / best(isa);
}

}  // namespace intaglio
