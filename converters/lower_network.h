// Builds the integer graph of a calibrated network.
#pragma once

#include <string>
#include <vector>

#include "converters/calibration.h"
#include "converters/network.h"
#include "graph/graph.h"

namespace intaglio {

/// `labels`: one per class, or none. The graph passes check(). Values carry the names of the
/// network's results, operations those of its layers. Throws Error(kUnsupported) for what fixed
/// point cannot express.
Graph lower(const Network& network, const Calibration& calibration,
            std::vector<std::string> labels);

}  // namespace intaglio
