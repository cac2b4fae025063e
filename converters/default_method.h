// The default method of calibration: not the paper's, closer to the float network, with the same
// integers. docs/calibration.md tells what each step brings.
#pragma once

#include "converters/calibrate.h"
#include "converters/calibration.h"
#include "converters/network.h"

namespace intaglio {

/// Changes `network` without changing its function (equalize.h), then chooses grids for it: a s16
/// residual stream with direct sums, row-relative attention codes, pixels as input codes, powers of
/// two for outlier channels behind GELU.
Calibration calibrate(Network& network, const CalibrationImages& images,
                      const ReportProgress& progress = {}, std::size_t threads = 0);

}  // namespace intaglio
