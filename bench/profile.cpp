#include "bench/profile.h"

#include <algorithm>

#include "bench/statistics.h"

namespace intaglio {
namespace {

/// "blocks.11.norm1" -> "blocks.*.norm1": parts between dots that are numbers.
std::string without_numbers(const std::string& name) {
  std::string pattern;
  for (std::size_t first = 0; first <= name.size();) {
    const std::size_t last = std::min(name.find('.', first), name.size());
    const std::string part = name.substr(first, last - first);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
    pattern += (first == 0 ? "" : ".") + (number ? "*" : part);
    first = last + 1;
  }
  return pattern;
}

}  // namespace

StepClock::StepClock(std::size_t steps)
    : steps_(steps), current_(steps), microseconds_(kMaxInferences * steps) {
  fastest_.reserve(steps);
}

void StepClock::begin(std::size_t step) noexcept {
  const auto now = Clock::now();
  if (step == 0) start_ = now;
  current_[step].begin = std::chrono::duration<double, std::micro>(now - start_).count();
}

void StepClock::end(std::size_t step) noexcept {
  current_[step].end = std::chrono::duration<double, std::micro>(Clock::now() - start_).count();
  if (step + 1 < steps_ || inferences_ == kMaxInferences) return;
  for (std::size_t i = 0; i < steps_; ++i) {
    microseconds_[inferences_ * steps_ + i] =
        static_cast<float>(current_[i].end - current_[i].begin);
  }
  ++inferences_;
  if (fastest_.empty() || current_.back().end < fastest_.back().end) {
    fastest_.assign(current_.begin(), current_.end());
  }
}

double StepClock::median_seconds(std::size_t step) const {
  std::vector<double> times;
  for (std::size_t i = 0; i < inferences_; ++i) {
    times.push_back(1e-6 * double{microseconds_[i * steps_ + step]});
  }
  return times.empty() ? 0 : median(std::move(times));
}

std::vector<StepGroup> group_steps(const std::vector<StepInfo>& steps, const StepClock& clock,
                                   bool grouped) {
  std::vector<StepGroup> groups;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const StepInfo& step = steps[i];
    const std::string name = grouped ? without_numbers(step.name) : step.name;
    auto group = std::find_if(groups.begin(), groups.end(), [&](const StepGroup& g) {
      return g.name == name && g.kind == step.kind;
    });
    if (group == groups.end()) group = groups.insert(group, {name, step.kind});
    ++group->count;
    group->seconds += clock.median_seconds(i);
    group->macs += step.multiply_accumulates;
    group->bytes += step.parameter_bytes + step.activation_bytes;
  }
  return groups;
}

}  // namespace intaglio
