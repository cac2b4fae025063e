// intaglio-bench-kernels: every kernel of every table that this CPU can run, on the shapes of real
// models, beside oneDNN; one thread. Takes Google Benchmark's options, and
//   --summary   one compact table of medians over interleaved rounds
//   --scalar    measures the scalar table too
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "bench/kernels/entries.h"
#include "bench/kernels/summary.h"
#include "bench/peak.h"

namespace intaglio::bench {
namespace {

using benchmark::Counter;

/// Results that differ from the scalar table's; nothing is reported for them.
int wrong_results = 0;

Counter giga_per_second(double per_run) {
  return Counter(per_run * 1e-9, Counter::kIsIterationInvariantRate);
}

/// An entry that is prepared and checked when it is first measured.
class Measured {
 public:
  Measured(Entry entry, PeakMeter& peak) : entry_(std::move(entry)), peak_(peak) {}

  void operator()(benchmark::State& state) {
    if (!prepared_.run) {
      prepared_ = entry_.prepare();
      prepared_.run();
      right_ = prepared_.result() == entry_.expected();
      if (!right_) ++wrong_results;
    }
    if (!right_) {
      state.SkipWithError("result differs from the scalar kernel's");
      return;
    }
    if (entry_.macs > 0) peak_.visit(entry_.yardstick);
    for (auto _ : state) prepared_.run();
    if (entry_.bytes > 0) state.counters[kByteRate] = giga_per_second(entry_.bytes);
    if (entry_.macs > 0) {
      state.counters[kMacRate] = giga_per_second(entry_.macs);
      // The share of the peak: how many peaks' worth a second holds.
      state.counters["peaks"] =
          Counter(entry_.macs / peak_.best(entry_.yardstick), Counter::kIsIterationInvariantRate);
    }
  }

 private:
  Entry entry_;
  PeakMeter& peak_;
  Prepared prepared_;
  bool right_ = false;
};

std::vector<Entry> all_entries(bool with_scalar) {
  std::vector<Entry> all;
  for (const auto& part :
       {entries_of(gemm_works()), onednn_entries(), entries_of(fused_gemm_works()),
        entries_of(attention_works()), entries_of(row_works())}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  const std::string scalar = kernels::isa_name(kernels::Isa::kScalar);
  if (!with_scalar) std::erase_if(all, [&](const Entry& e) { return e.engine == scalar; });
  return all;
}

void add(const std::vector<Entry>& entries, PeakMeter& peak) {
  for (const Entry& entry : entries) {
    const auto measured = std::make_shared<Measured>(entry, peak);
    benchmark::RegisterBenchmark((entry.kernel + "/" + entry.shape + "/" + entry.engine).c_str(),
                                 [measured](benchmark::State& state) { (*measured)(state); });
  }
}

/// Takes `option` out of the arguments.
bool take(std::vector<char*>& arguments, const char* option) {
  const auto is_it = [&](const char* a) { return std::strcmp(a, option) == 0; };
  return std::erase_if(arguments, is_it) != 0;
}

int run(int argc, char** argv) {
  std::vector<char*> arguments(argv, argv + argc);
  const bool summary = take(arguments, "--summary");
  const bool with_scalar = take(arguments, "--scalar");
  // Rounds in random order, so that a slow moment of the machine does not fall on one engine. What
  // the user gives comes later and wins.
  static char rounds[] = "--benchmark_repetitions=5", brief[] = "--benchmark_min_time=0.02",
              mixed[] = "--benchmark_enable_random_interleaving=true";
  if (summary) arguments.insert(arguments.begin() + 1, {rounds, brief, mixed});
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;

  PeakMeter peak;
  for (const kernels::Isa isa : kernels::kAllIsas) {
    if (kernels::cpu_supports(isa)) peak.visit(isa);
  }
  const std::vector<Entry> entries = all_entries(with_scalar);
  add(entries, peak);
  SummaryReporter reporter(entries, peak);
  if (summary) {
    benchmark::RunSpecifiedBenchmarks(&reporter);
  } else {
    benchmark::RunSpecifiedBenchmarks();
  }
  if (wrong_results != 0) std::fprintf(stderr, "%d results are wrong\n", wrong_results);
  return wrong_results == 0 ? 0 : 1;
}

}  // namespace
}  // namespace intaglio::bench

int main(int argc, char** argv) {
  // oneDNN's threads are OpenMP's, which reads its setting once, before main: start over with it.
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    setenv("OMP_NUM_THREADS", "1", 1);
    execv("/proc/self/exe", argv);
  }
  return intaglio::bench::run(argc, argv);
}
