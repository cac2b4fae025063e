// A compact table of what a run measured: a row per shape, a column per engine.
#pragma once

#include <benchmark/benchmark.h>

#include <map>
#include <string>
#include <vector>

#include "bench/kernels/entries.h"

namespace intaglio::bench {

/// Collects the repetitions of every benchmark named "kernel/shape/engine" and prints medians.
class SummaryReporter : public benchmark::BenchmarkReporter {
 public:
  /// Rows come in the order of `entries`, however the rounds are mixed.
  explicit SummaryReporter(const std::vector<Entry>& entries);
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& report) override;
  void Finalize() override;

 private:
  struct Row {
    std::string kernel, shape;
    bool counts_macs = false;
    bool has_peer = false;
    std::map<std::string, std::vector<double>> rates;  ///< of each engine, G per second

    double median_of(const std::string& engine) const;
  };
  Row& row_of(const std::string& kernel, const std::string& shape);
  void print_gemms(double peak) const;
  void print_others(double peak) const;

  std::vector<Row> rows_;
  std::vector<double> peaks_;
};

/// What counters are called; all are rates, per second of CPU time.
inline constexpr const char* kMacRate = "GMAC";
inline constexpr const char* kByteRate = "GB";
inline constexpr const char* kPeakName = "peak/vpdpbusd/registers";

}  // namespace intaglio::bench
