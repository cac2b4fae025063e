#include "bench/kernels/summary.h"

#include <fmt/core.h>

#include <algorithm>

#include "kernels/kernels.h"

namespace intaglio::bench {
namespace {

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double percent(double part, double whole) {
  return whole > 0 ? 100 * part / whole : 0;
}

/// A number, or a dash where nothing was measured.
std::string cell(double value, int digits = 1) {
  return value > 0 ? fmt::format("{:.{}f}", value, digits) : "-";
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const kernels::KernelTable* table : kernels::all_tables()) {
    if (kernels::cpu_supports(table->isa)) names.emplace_back(kernels::isa_name(table->isa));
  }
  return names;
}

}  // namespace

SummaryReporter::SummaryReporter(const std::vector<Entry>& entries) {
  for (const Entry& entry : entries) {
    Row& row = row_of(entry.kernel, entry.shape);
    row.counts_macs = entry.macs > 0;
    row.has_peer |= entry.engine == "onednn_s32";
  }
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
  rows_.push_back({kernel, shape, false, false, {}});
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
    const auto macs = run.counters.find(kMacRate);
    const bool counts_macs = macs != run.counters.end();
    const double rate = (counts_macs ? macs : run.counters.find(kByteRate))->second.value;
    if (name == kPeakName) {
      peaks_.push_back(rate);
      continue;
    }
    const std::size_t first = name.find('/');
    const std::size_t last = name.rfind('/');
    Row& row = row_of(name.substr(0, first), name.substr(first + 1, last - first - 1));
    row.rates[name.substr(last + 1)].push_back(rate);
  }
}

void SummaryReporter::print_gemms(double peak) const {
  const std::string best = supported_isas().front();
  fmt::print("\nGEMM, GMAC/s; ours is {}, with results of u8, s16 (fc1) or s32 (head)\n", best);
  fmt::print("{:<28}{:>8}{:>8}{:>12}{:>12}{:>12}{:>12}{:>12}{:>9}\n", "layer, MxKxN", "ours",
             "% peak", "ours, avx2", "oneDNN s32", "oneDNN u8", "oneDNN f32", "ours / s32", "/ u8");
  for (const Row& row : rows_) {
    if (!row.has_peer || row.rates.empty()) continue;
    const double ours = row.median_of(best);
    const double s32 = row.median_of("onednn_s32");
    const double u8 = row.median_of("onednn_u8");
    fmt::print("{:<28}{:>8}{:>8}{:>12}{:>12}{:>12}{:>12}{:>12}{:>9}\n", row.shape, cell(ours),
               cell(percent(ours, peak)), cell(row.median_of("avx2")), cell(s32), cell(u8),
               cell(row.median_of("onednn_f32")), cell(s32 > 0 ? ours / s32 : 0, 2),
               cell(u8 > 0 ? ours / u8 : 0, 2));
  }
}

void SummaryReporter::print_others(double peak) const {
  fmt::print("\n{:<19}{:<28}{:<8}", "kernel", "shape", "unit");
  const std::vector<std::string> isas = supported_isas();
  for (const std::string& isa : isas) fmt::print("{:>13}", isa);
  fmt::print("{:>8}\n", "% peak");
  for (const Row& row : rows_) {
    if (row.has_peer || row.rates.empty()) continue;
    fmt::print("{:<19}{:<28}{:<8}", row.kernel, row.shape, row.counts_macs ? "GMAC/s" : "GB/s");
    for (const std::string& isa : isas) fmt::print("{:>13}", cell(row.median_of(isa), 2));
    const double best = row.counts_macs ? row.median_of(isas.front()) : 0;
    fmt::print("{:>8}\n", cell(percent(best, peak)));
  }
}

void SummaryReporter::Finalize() {
  const double peak = median(peaks_);
  fmt::print("peak, vpdpbusd on registers: {} GMAC/s; medians of all rounds, by CPU time\n",
             cell(peak));
  print_gemms(peak);
  print_others(peak);
}

}  // namespace intaglio::bench
