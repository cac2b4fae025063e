// What the default method of calibration needs to know of a network: the range of every channel.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "converters/calibrate.h"
#include "converters/float_executor.h"
#include "converters/network.h"

namespace intaglio {

/// Of one tensor, over the rows that the logits depend on.
struct TensorRange {
  std::vector<float> low, high;  ///< [channels]; of scores, one for all
  float lowest_row_maximum = 0;  ///< scores only
  std::size_t rows = 0;          ///< that were seen

  float lowest() const;
  float highest() const;
  /// Half the distance between a channel's extremes.
  float radius(std::size_t c) const { return (high[c] - low[c]) / 2; }
  float middle(std::size_t c) const { return (high[c] + low[c]) / 2; }
};

/// Of the layers' results, and what softmaxes take, by the names that TensorObserver has.
using TensorRanges = std::map<std::string, TensorRange>;

TensorRanges measure_ranges(const Network& network, const CalibrationImages& images,
                            const ReportProgress& progress = {}, std::size_t threads = 0);

}  // namespace intaglio
