// A compact table of what a run measured: a row per shape, a column per engine.
#pragma once

#include <benchmark/benchmark.h>

#include <map>
#include <string>
#include <vector>

#include "bench/kernels/entries.h"
#include "bench/peak.h"

namespace intaglio::bench {

/// Collects the repetitions of every benchmark named "kernel/shape/engine" and prints medians.
class SummaryReporter : public benchmark::BenchmarkReporter {
 public:
  /// Rows come in the order of `entries`, however the rounds are mixed. `peak` is asked at the end.
  SummaryReporter(const std::vector<Entry>& entries, const PeakMeter& peak);
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& report) override;
  void Finalize() override;

 private:
  struct Row {
    std::string kernel, shape;
    bool counts_macs = false;
    std::map<std::string, std::vector<double>> rates;  ///< of each engine, G per second

    bool is_gemm() const;
    double median_of(const std::string& engine) const;
  };
  struct Level {
    std::string name;
    kernels::Isa isa;
  };
  Row& row_of(const std::string& kernel, const std::string& shape);
  void print_head(const char* title, bool peers) const;
  void print_row(const Row& row) const;
  void print_peers(const Row& row) const;

  const PeakMeter& peak_;
  std::vector<Level> levels_;  ///< best first
  std::vector<Row> rows_;
};

/// What counters are called; all are rates, per second of CPU time.
inline constexpr const char* kMacRate = "GMAC";
inline constexpr const char* kByteRate = "GB";

}  // namespace intaglio::bench
