// Measures configurations side by side.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "bench/machine.h"
#include "bench/model_source.h"
#include "bench/profile.h"

namespace intaglio {

/// One row of the output.
struct Configuration {
  std::string model;           ///< what it is called
  std::filesystem::path path;  ///< where it can be loaded
  Isa isa = Isa::kScalar;
  std::size_t threads = 1;
  std::size_t batch = 1;
};

enum class StepDetail { kNone, kGrouped, kAll };

struct MeasureOptions {
  double seconds = 2;  ///< of timed calls per row
  StepDetail steps = StepDetail::kGrouped;
  bool timeline = false;  ///< keep one inference's steps
};

/// Beyond these a row cannot tell small differences.
inline constexpr double kMaxRoundSpread = 0.10;
inline constexpr double kMaxPeakSpread = 0.10;

/// docs/benchmarks.md defines the figures.
struct Measurement {
  Configuration configuration;
  std::size_t calls = 0;
  double min_ms = 0, median_ms = 0, p90_ms = 0, p99_ms = 0;  ///< of one call: the whole batch
  double spread = 0;                                         ///< (p90 - min) / median
  double round_spread = 0;  ///< (largest - smallest) / smallest median of a round
  double images_per_s = 0;
  LoadCost cost;
  std::size_t macs = 0;         ///< of one image
  double peak_gmac_s = 0;       ///< of one core
  double peak_spread = 0;       ///< (best - median) / best of the visits
  double floor_ms = 0;          ///< of one call
  double ratio = 0;             ///< median / floor
  std::string checked_against;  ///< the level that gave the same logits; empty: too slow to ask
  std::vector<StepGroup> steps;
  std::size_t step_threads = 1;  ///< that share a step
  std::vector<StepInfo> infos;   ///< of the timeline
  std::vector<Span> timeline;
  Activity activity;  ///< of the whole run
  /// Why the row's figures are not to be trusted; empty: they are steady.
  std::vector<std::string> noise() const;
};

/// Checks every row's logits, then times all rows in turns, several rounds. Throws
/// Error(kIntegrity) when a row's logits are not those of the other rows or another level.
std::vector<Measurement> measure(const std::vector<Configuration>& rows,
                                 const MeasureOptions& options);

}  // namespace intaglio
