// Where the time of an inference goes, step by step.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "engine/intaglio.h"

namespace intaglio {

/// One step's begin and end in an inference, microseconds from the first begin.
struct Span {
  double begin = 0, end = 0;
};

/// Notes when steps begin and end, over many inferences. Room for all is made beforehand: an
/// inference must not wait for memory.
class StepClock : public StepObserver {
 public:
  explicit StepClock(std::size_t steps);
  void begin(std::size_t step) noexcept override;
  void end(std::size_t step) noexcept override;

  std::size_t inferences() const { return inferences_; }
  /// Median over the inferences, in seconds; 0 without any.
  double median_seconds(std::size_t step) const;
  /// The fastest inference as it went; empty without any.
  const std::vector<Span>& timeline() const { return fastest_; }

 private:
  static constexpr std::size_t kMaxInferences = 1024;  ///< later ones are not noted
  using Clock = std::chrono::steady_clock;

  std::size_t steps_, inferences_ = 0;
  Clock::time_point start_;
  std::vector<Span> current_, fastest_;
  std::vector<float> microseconds_;  // [kMaxInferences, steps]
};

/// Steps that are alike, or one.
struct StepGroup {
  std::string name;  ///< "blocks.*.attn.qkv"
  std::string kind;
  std::size_t count = 0;
  double seconds = 0;
  std::size_t macs = 0;
  std::size_t bytes = 0;  ///< of parameters and activations, each counted once per step
};

/// In the order in which they first run. `grouped`: steps whose names differ in numbers alone and
/// whose kinds are the same become one.
std::vector<StepGroup> group_steps(const std::vector<StepInfo>& steps, const StepClock& clock,
                                   bool grouped);

}  // namespace intaglio
