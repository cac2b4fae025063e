#include "bench/kernels/summary.h"

#include <fmt/core.h>

#include <algorithm>

#include "bench/statistics.h"

namespace intaglio::bench {
namespace {

/// A number, or a dash where nothing was measured.
std::string cell(double value, int digits = 1) {
  return value > 0 ? fmt::format("{:.{}f}", value, digits) : "-";
}

double ratio(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

}  // namespace

SummaryReporter::SummaryReporter(const std::vector<Entry>& entries, const PeakMeter& peak)
    : peak_(peak) {
  for (const Entry& entry : entries) {
    row_of(entry.kernel, entry.shape).counts_macs = entry.macs > 0;
    const Level level = {entry.engine, entry.yardstick};
    const bool known = std::any_of(levels_.begin(), levels_.end(),
                                   [&](const Level& l) { return l.name == level.name; });
    if (!known && level.name == kernels::isa_name(level.isa)) levels_.push_back(level);
  }
}

bool SummaryReporter::Row::is_gemm() const {
  return kernel.rfind("gemm_", 0) == 0;
}

double SummaryReporter::Row::median_of(const std::string& engine) const {
  const auto found = rates.find(engine);
  return found == rates.end() ? 0 : median(found->second);
}

bool SummaryReporter::ReportContext(const Context&) {
  return true;
}

SummaryReporter::Row& SummaryReporter::row_of(const std::string& kernel, const std::string& shape) {
  for (Row& row : rows_) {
    if (row.kernel == kernel && row.shape == shape) return row;
  }
  rows_.push_back({kernel, shape, false, {}});
  return rows_.back();
}

void SummaryReporter::ReportRuns(const std::vector<Run>& report) {
  for (const Run& run : report) {
    const std::string& name = run.run_name.function_name;
    if (run.error_occurred) {
      fmt::print("{}: {}\n", name, run.error_message);
      continue;
    }
    if (run.run_type != Run::RT_Iteration) continue;
    const std::size_t first = name.find('/');
    const std::size_t last = name.rfind('/');
    Row& row = row_of(name.substr(0, first), name.substr(first + 1, last - first - 1));
    const char* counter = row.counts_macs ? kMacRate : kByteRate;
    row.rates[name.substr(last + 1)].push_back(run.counters.find(counter)->second.value);
  }
}

void SummaryReporter::print_head(const char* title, bool peers) const {
  fmt::print("\n{:<19}{:<38}{:<7}", title, "shape", "unit");
  for (const Level& level : levels_) fmt::print("{:>12}", level.name);
  fmt::print("{:>8}", "% peak");
  if (peers) {
    fmt::print("{:>9}{:>8}{:>8}{:>9}{:>7}{:>7}", "DNN s32", "u8", "f32", "ours/s32", "/u8", "/f32");
  }
  fmt::print("\n{:<19}{:<38}{:<7}", "", "peak, operands in registers", "GMAC/s");
  for (const Level& level : levels_) fmt::print("{:>12.1f}", 1e-9 * peak_.best(level.isa));
  fmt::print("\n");
}

void SummaryReporter::print_row(const Row& row) const {
  fmt::print("{:<19}{:<38}{:<7}", row.kernel, row.shape, row.counts_macs ? "GMAC/s" : "GB/s");
  for (const Level& level : levels_) fmt::print("{:>12}", cell(row.median_of(level.name)));
  const Level& best = levels_.front();
  const double rate = row.counts_macs ? row.median_of(best.name) : 0;
  fmt::print("{:>8}", cell(100 * ratio(rate, 1e-9 * peak_.best(best.isa))));
}

/// The peers' plain products of the same shape: they fuse no epilogue.
void SummaryReporter::print_peers(const Row& row) const {
  const auto plain = std::find_if(rows_.begin(), rows_.end(), [&](const Row& r) {
    return r.kernel == kPlainGemm && r.shape == row.shape;
  });
  const double ours = row.median_of(levels_.front().name);
  std::string rates;
  std::string ratios;
  for (const char* engine : {"onednn_s32", "onednn_u8", "onednn_f32"}) {
    const double rate = plain->median_of(engine);
    rates += fmt::format("{:>{}}", cell(rate), rates.empty() ? 9 : 8);
    ratios += fmt::format("{:>{}}", cell(ratio(ours, rate), 2), ratios.empty() ? 9 : 7);
  }
  fmt::print("{}{}", rates, ratios);
}

void SummaryReporter::Finalize() {
  fmt::print("Medians of all rounds, by CPU time; % peak is that of {}.\n", levels_.front().name);
  for (const bool gemms : {true, false}) {
    bool first = true;
    for (const Row& row : rows_) {
      if (row.is_gemm() != gemms || row.rates.empty()) continue;
      if (first) print_head(gemms ? "GEMM" : "others", gemms);
      first = false;
      print_row(row);
      if (gemms) print_peers(row);
      fmt::print("\n");
    }
  }
}

}  // namespace intaglio::bench
