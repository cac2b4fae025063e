// Graphs of the paper's forms, rewritten into the forms beyond it: for tests that need whole
// networks of them.
#pragma once

#include "graph/graph.h"

namespace intaglio::test {

/// Every residual addition becomes part of the linear layer before it: accumulators go straight
/// onto a stream of type `stream`. kU8 keeps the PTF grids; kS16 has 2^6 times finer ones with one
/// scale.
Graph with_direct_sums(const Graph& graph, DType stream);

/// Every attention gets codes relative to its rows' maxima.
Graph with_row_relative_softmax(const Graph& graph);

}  // namespace intaglio::test
