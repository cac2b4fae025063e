// From a model file's constants to what a model keeps: packed weights and small copies.
#pragma once

#include <cstddef>

#include "engine/plan.h"
#include "graph/graph.h"

namespace intaglio {

/// Copies all constants but the weights, so that of the file only the weights are needed.
void copy_small_constants(Graph& graph);

/// Packs the weights of all steps, with up to `threads` threads, into Plan::packed. The file's
/// memory is given back layer by layer, so that at no time there is much more than one copy of the
/// weights; at the end they are gone from the graph, which keeps their shapes. Throws
/// std::bad_alloc.
void pack_weights(Graph& graph, Plan& plan, std::size_t threads);

}  // namespace intaglio
