// What a run says at its end.
#pragma once

#include <cstddef>
#include <string>

#include "engine/classify/pipeline.h"

namespace intaglio {

struct Summary {
  std::size_t images = 0;  ///< all, failed ones and those of an earlier run included
  std::size_t first = 0;   ///< those that were not computed
  std::size_t failed = 0;
  std::size_t top1 = 0, top5 = 0;  ///< images that are right
  std::size_t threads = 1;
  double seconds = 0;  ///< wall time, without loading the model and reading earlier rows
  StageTimes times;
  double output_cpu = 0;
};

std::string summary_text(const Summary& summary, bool accuracy);
/// With accuracy.
std::string summary_json(const Summary& summary);
/// Images per second, the stages' shares of CPU time, and which one was the limit; empty for so few
/// images that it would mean nothing.
std::string stages_text(const Summary& summary);

}  // namespace intaglio
