// From a model file's constants to what a model keeps: packed weights and small copies.
#pragma once

#include <cstddef>
#include <map>
#include <memory>

#include "engine/plan.h"
#include "graph/graph.h"
#include "graph/page_memory.h"

namespace intaglio {

/// Copies all constants but the weights, so that of the file only the weights are needed.
void copy_small_constants(Graph& graph);

/// Weights as the steps read them.
struct PackedWeights {
  std::unique_ptr<PageMemory> memory;
  std::map<std::size_t, const std::byte*> of_op;  ///< by index into Graph::ops
};

/// Packs the weights of all steps, with up to `threads` threads. The file's memory is given back
/// layer by layer, so that at no time there is much more than one copy of the weights; at the end
/// they are gone from the graph, which keeps their shapes. Throws std::bad_alloc.
PackedWeights pack_weights(Graph& graph, Plan& plan, std::size_t threads);

/// Makes the steps of another plan use the same weights; they outlive it.
void use_packed_weights(Plan& plan, const PackedWeights& packed);

}  // namespace intaglio
