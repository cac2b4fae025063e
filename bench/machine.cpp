#include "bench/machine.h"

#include <fmt/chrono.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>

#include "bench/commit.h"
#include "engine/thread_pool.h"

namespace intaglio {
namespace {

/// The text behind "key<spaces>:" on the first line that starts so.
std::string field_of(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (line.compare(0, key.size(), key) != 0 || colon == line.npos) continue;
    const std::size_t first = line.find_first_not_of(" \t", colon + 1);
    return first == line.npos ? "" : line.substr(first);
  }
  return "";
}

/// A dependent addition takes one cycle. The best of several short runs: the others were disturbed.
double estimate_clock_ghz() {
  constexpr std::uint64_t kRounds = 200'000;
  constexpr int kAdditions = 16;
  double best = 0;
  for (int attempt = 0; attempt < 30; ++attempt) {
    std::uint64_t sum = 0;
    std::uint64_t step = 3;
    const auto start = std::chrono::steady_clock::now();
    for (std::uint64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < kAdditions; ++j) {
        sum += step;
        __asm__ volatile("" : "+r"(sum), "+r"(step));  // kept apart from the next one
      }
    }
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
    best = std::max(best, kAdditions * kRounds / time.count());
  }
  return best;
}

std::string compiler() {
#ifdef __clang__
  return fmt::format("clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  return fmt::format("gcc {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}

}  // namespace

Machine describe_machine() {
  Machine machine;
  machine.cpu = field_of("/proc/cpuinfo", "model name");
  if (machine.cpu.empty()) machine.cpu = "unknown";
  machine.cpus = available_cpus();
  machine.clock_ghz = estimate_clock_ghz();
  machine.compiler = compiler();
  machine.commit = kCommit;
  machine.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  return machine;
}

double peak_rss_mb() {
  const std::string kilobytes = field_of("/proc/self/status", "VmHWM");
  return kilobytes.empty() ? 0 : std::stod(kilobytes) * 1024 / 1e6;
}

ActivityMonitor::Ticks ActivityMonitor::now() {
  Ticks ticks;
  std::ifstream file("/proc/stat");
  std::string cpu;
  std::uint64_t user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft = 0, steal = 0;
  if (file >> cpu >> user >> nice >> system >> idle >> wait >> irq >> soft >> steal) {
    ticks.busy = user + nice + system + irq + soft;
    ticks.stolen = steal;
    ticks.total = ticks.busy + idle + wait + steal;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  for (const timeval& time : {usage.ru_utime, usage.ru_stime}) {
    ticks.own_seconds +=
        static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  }
  return ticks;
}

Activity ActivityMonitor::since_start() const {
  const Ticks end = now();
  const auto total = static_cast<double>(end.total - start_.total);
  if (total <= 0) return {};
  const double own =
      (end.own_seconds - start_.own_seconds) * static_cast<double>(sysconf(_SC_CLK_TCK));
  const double busy = static_cast<double>(end.busy - start_.busy);
  return {std::max(0.0, busy - own) / total,
          static_cast<double>(end.stolen - start_.stolen) / total};
}

}  // namespace intaglio
