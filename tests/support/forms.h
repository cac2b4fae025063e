// Graphs of the paper's forms, rewritten into the forms beyond it: for tests that need whole
// networks of them.
#pragma once

#include "graph/graph.h"

namespace intaglio::test {

/// Every residual addition becomes part of the linear layer before it: accumulators go straight
/// onto a stream of type `stream`. kU8 keeps the PTF grids; kS16 has 2^6 times finer ones with one
/// scale, from the embedding on.
Graph with_direct_sums(const Graph& graph, DType stream);

/// GELU's results get exponents of 0..3. The weights behind stay: the codes change, and what they
/// mean.
Graph with_gelu_exponents(const Graph& graph);

/// The head reads two tokens side by side, `row` and the one behind it, with its weights times
/// `first` and times `second`, each 0 or 1. The graph ends in select_rows, layernorm, linear.
Graph with_two_tokens(const Graph& graph, int row, int first, int second);

/// Every attention gets codes relative to its rows' maxima.
Graph with_row_relative_softmax(const Graph& graph);

/// Every attention gets probabilities in steps of 1/255.
Graph with_uniform_softmax(const Graph& graph);

}  // namespace intaglio::test
