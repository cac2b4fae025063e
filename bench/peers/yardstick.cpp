// intaglio-yardstick THREADS [ISA]: what the machine can do at this moment, as one line of JSON.
// The peak is that of all threads together, at the level ISA (default: the best); the round trip is
// a cache line's way from one core to another and back, which tells whether the two sit on one die.
#include <fmt/core.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "kernels/kernels.h"

namespace intaglio {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The CPUs that this process may use.
std::vector<int> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

/// GMAC/s of `threads` threads that start together; the best of some bursts, shorter than the
/// time between two ticks of the system's clock.
double measure_peak(int threads, kernels::Isa isa) {
  const kernels::KernelTable& table = kernels::table_of(isa);
  constexpr std::size_t kMacs = 80'000'000;
  const std::size_t rounds = kMacs / table.peak_macs_per_round;
  const double macs = static_cast<double>(rounds * table.peak_macs_per_round) * threads;
  double best = 0;
  for (int burst = 0; burst < 100; ++burst) {
    std::atomic<int> ready{0};
    const auto work = [&] {
      ready.fetch_add(1);
      while (ready.load() < threads) {
      }
      table.peak_mac(rounds);
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(work);
    while (ready.load() < threads - 1) {
    }
    const auto start = Clock::now();
    work();
    for (std::thread& thread : others) thread.join();
    best = std::max(best, macs / seconds_since(start) * 1e-9);
  }
  return best;
}

/// Nanoseconds; 0 where there is one core. The best of some short rallies: another process on one
/// of the cores spoils the others.
double measure_round_trip() {
  const std::vector<int> cpus = usable_cpus();
  if (cpus.size() < 2) return 0;
  constexpr int kRallies = 100;
  constexpr int kTrips = 200;
  alignas(128) static std::atomic<int> ball{0};
  std::thread other([&] {
    pin(cpus[1]);
    for (int i = 0; i < kRallies * kTrips; ++i) {
      while (ball.load(std::memory_order_acquire) != 2 * i + 1) {
      }
      ball.store(2 * i + 2, std::memory_order_release);
    }
  });
  pin(cpus[0]);
  double best = 1;
  int i = 0;
  for (int rally = 0; rally < kRallies; ++rally) {
    const auto start = Clock::now();
    for (const int end = i + kTrips; i < end; ++i) {
      ball.store(2 * i + 1, std::memory_order_release);
      while (ball.load(std::memory_order_acquire) != 2 * i + 2) {
      }
    }
    best = std::min(best, seconds_since(start) / kTrips);
  }
  other.join();
  return best * 1e9;
}

/// Of that name, where the CPU supports it.
std::optional<kernels::Isa> find_isa(std::string_view name) {
  for (const kernels::Isa isa : kernels::kAllIsas) {
    if (name == kernels::isa_name(isa) && kernels::cpu_supports(isa)) return isa;
  }
  return std::nullopt;
}

int run(int argc, char** argv) {
  const int threads = argc == 2 || argc == 3 ? std::atoi(argv[1]) : 0;
  const auto isa = argc == 3 ? find_isa(argv[2]) : kernels::best_isa();
  if (threads < 1 || threads > 256 || !isa) {
    fmt::print(stderr, "usage: intaglio-yardstick THREADS [ISA]\n");
    return 2;
  }
  const double peak = measure_peak(threads, *isa);
  const double round_trip = threads > 1 ? measure_round_trip() : 0;
  fmt::print("{{\"threads\": {}, \"gmac_s\": {:.2f}, \"round_trip_ns\": {:.0f}}}\n", threads, peak,
             round_trip);
  return 0;
}

}  // namespace
}  // namespace intaglio

int main(int argc, char** argv) {
  return intaglio::run(argc, argv);
}
