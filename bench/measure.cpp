#include "bench/measure.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include "bench/peak.h"
#include "bench/statistics.h"
#include "bench/workload.h"
#include "engine/program.h"

namespace intaglio {
namespace {

constexpr int kRounds = 8;
constexpr std::size_t kMinCalls = 3;
constexpr double kProfileShare = 0.25;  // of a round's time, on top of it

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The logits that all rows of one model must give, and the levels that gave them.
struct Reference {
  std::vector<std::int32_t> logits;
  std::vector<Isa> levels;

  /// The name of a level other than `isa`; empty if no other gave them.
  std::string other_than(Isa isa) const {
    const auto other = std::find_if(levels.begin(), levels.end(), [&](Isa l) { return l != isa; });
    return other == levels.end() ? "" : isa_name(*other);
  }
};

std::vector<std::int32_t> logits_of(const Model& model) {
  Workload workload(model, 1, 1);
  const std::vector<std::uint8_t> pixels = test_pixels(model);
  const auto logits = workload.first().run({pixels.data(), static_cast<int>(model.width()),
                                            static_cast<int>(model.height()), 3 * model.width()});
  return {logits.begin(), logits.end()};
}

/// The cheapest of three loads, or of one that takes long.
LoadCost load_cost(const Configuration& row) {
  const auto start = Clock::now();
  const auto measure = [&] { return measure_load_cost(row.path, row.isa, row.threads, row.batch); };
  LoadCost best = measure();
  for (int i = 1; i < 3 && seconds_since(start) < 1; ++i) {
    const LoadCost cost = measure();
    best = {std::min(best.load_ms, cost.load_ms), std::min(best.peak_rss_mb, cost.peak_rss_mb)};
  }
  return best;
}

/// A row in the making.
class Lane {
 public:
  Lane(const Configuration& configuration, const Model& model, Reference& reference, bool profiled)
      : configuration_(configuration),
        model_(model),
        reference_(reference),
        profiled_(profiled),
        workload_(model, configuration.threads, configuration.batch),
        clock_(model.steps().size()) {
    workload_.run();
    check();
    reference.levels.push_back(configuration.isa);
    const auto start = Clock::now();
    workload_.run();
    call_ = seconds_since(start);
  }

  bool done(double seconds) const { return spent_ >= seconds && calls_.size() >= kMinCalls; }

  /// Timed calls for `seconds`, at least one, then observed ones; the peak before and after.
  void round(double seconds, PeakMeter& peak) {
    peak.visit(configuration_.isa);
    if (call_ < seconds / 4) workload_.run();  // caches hold the row before
    std::vector<double> times;
    const auto start = Clock::now();
    do {
      const auto begin = Clock::now();
      workload_.run();
      times.push_back(seconds_since(begin));
    } while (seconds_since(start) < seconds);
    spent_ += seconds_since(start);
    check();
    peak.visit(configuration_.isa);
    medians_.push_back(median(times));
    calls_.insert(calls_.end(), times.begin(), times.end());
    if (profiled_) profile(kProfileShare * seconds);
  }

  Measurement result(const PeakMeter& peak, const MeasureOptions& options) const {
    Measurement m;
    m.configuration = configuration_;
    m.calls = calls_.size();
    m.min_ms = 1e3 * quantile(calls_, 0);
    m.median_ms = 1e3 * median(calls_);
    m.p90_ms = 1e3 * quantile(calls_, 0.9);
    m.p99_ms = 1e3 * quantile(calls_, 0.99);
    m.spread = (m.p90_ms - m.min_ms) / m.median_ms;
    m.round_spread = quantile(medians_, 1) / quantile(medians_, 0) - 1;
    m.images_per_s = 1e3 * static_cast<double>(configuration_.batch) / m.median_ms;
    m.macs = model_.multiply_accumulates();
    m.peak_gmac_s = 1e-9 * peak.best(configuration_.isa);
    m.peak_spread = peak.spread(configuration_.isa);
    const std::size_t cores = std::min(configuration_.threads, available_cpus());
    m.floor_ms = 1e-6 * static_cast<double>(m.macs * configuration_.batch) /
                 (m.peak_gmac_s * static_cast<double>(cores));
    m.ratio = m.median_ms / m.floor_ms;
    m.checked_against = reference_.other_than(configuration_.isa);
    m.step_threads = workload_.threads_per_step();
    if (options.steps != StepDetail::kNone) {
      m.steps = group_steps(model_.steps(), clock_, options.steps == StepDetail::kGrouped);
    }
    if (options.timeline) m.infos = model_.steps(), m.timeline = clock_.timeline();
    return m;
  }

 private:
  void profile(double seconds) {
    workload_.first().observe(&clock_);
    const auto start = Clock::now();
    do workload_.run();
    while (seconds_since(start) < seconds);
    workload_.first().observe(nullptr);
  }

  void check() const {
    if (workload_.gave(reference_.logits)) return;
    throw Error(
        ErrorCode::kIntegrity,
        fmt::format("{}: {} with {} threads and batch {} gives other logits than {}; "
                    "nothing is reported",
                    configuration_.model, isa_name(configuration_.isa), configuration_.threads,
                    configuration_.batch, isa_name(reference_.levels.front())));
  }

  Configuration configuration_;
  Model model_;
  const Reference& reference_;
  bool profiled_;
  Workload workload_;
  StepClock clock_;
  double call_ = 0, spent_ = 0;
  std::vector<double> calls_, medians_;
};

/// Loads each model once per level, and finds a level to hold the others against.
class Models {
 public:
  const Model& get(const Configuration& row) {
    const auto key = std::pair(row.path, row.isa);
    auto it = models_.find(key);
    if (it == models_.end()) it = models_.emplace(key, Model::load(row.path, {row.isa})).first;
    return it->second;
  }

  /// Made once per model, by a level other than the row's if one is fast enough.
  Reference& reference(const Configuration& row) {
    auto it = references_.find(row.path);
    if (it != references_.end()) return it->second;
    const Model& model = get(row);
    const std::optional<Isa> other = other_level(row.isa, model.multiply_accumulates());
    Reference reference;
    reference.levels = {other.value_or(row.isa)};
    reference.logits = logits_of(other ? Model::load(row.path, {*other}) : model);
    return references_.emplace(row.path, std::move(reference)).first->second;
  }

 private:
  /// The strongest level besides `isa` that takes about a second at most.
  static std::optional<Isa> other_level(Isa isa, std::size_t macs) {
    constexpr std::size_t kScalarLimit = 1'000'000'000;
    constexpr std::size_t kVectorLimit = 70'000'000'000;
    std::optional<Isa> other;
    for (const Isa candidate : kernels::kAllIsas) {  // weakest first
      const std::size_t limit = candidate == Isa::kScalar ? kScalarLimit : kVectorLimit;
      if (candidate != isa && kernels::cpu_supports(candidate) && macs <= limit) other = candidate;
    }
    return other;
  }

  std::map<std::pair<std::filesystem::path, Isa>, Model> models_;
  std::map<std::filesystem::path, Reference> references_;
};

}  // namespace

std::vector<std::string> Measurement::noise() const {
  std::vector<std::string> reasons;
  if (round_spread > kMaxRoundSpread) {
    reasons.push_back(fmt::format("medians of rounds differ by {:.0f} %", 100 * round_spread));
  }
  if (peak_spread > kMaxPeakSpread) {
    reasons.push_back(fmt::format("the peak differs by {:.0f} %", 100 * peak_spread));
  }
  if (ratio < 1) reasons.push_back("faster than the peak");
  return reasons;
}

std::vector<Measurement> measure(const std::vector<Configuration>& rows,
                                 const MeasureOptions& options) {
  Models models;
  PeakMeter peak;
  std::vector<std::unique_ptr<Lane>> lanes;
  std::vector<LoadCost> costs;
  const bool profiled = options.steps != StepDetail::kNone || options.timeline;
  for (const Configuration& row : rows) {
    lanes.push_back(std::make_unique<Lane>(row, models.get(row), models.reference(row), profiled));
  }
  for (const Configuration& row : rows) {
    costs.push_back(load_cost(row));
  }
  const ActivityMonitor activity;
  Progress progress(rows.size() * kRounds, "rounds");
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      progress.update(round * lanes.size() + i);
      if (!lanes[i]->done(options.seconds)) lanes[i]->round(options.seconds / kRounds, peak);
    }
  }
  progress.clear();
  const Activity noise = activity.since_start();
  std::vector<Measurement> results;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    results.push_back(lanes[i]->result(peak, options));
    results.back().cost = costs[i];
    results.back().activity = noise;
  }
  return results;
}

}  // namespace intaglio
