// What a Model is made of; for the engine's own files.
#pragma once

#include "engine/intaglio.h"
#include "engine/pack.h"
#include "engine/plan.h"
#include "graph/graph.h"

namespace intaglio {

struct Model::Impl {
  /// `threads` share the work.
  Impl(Graph model_graph, const kernels::KernelTable& kernel_table, std::size_t threads)
      : graph(std::move(model_graph)), table(kernel_table) {
    copy_small_constants(graph);  // the plan points to them
    plan = make_plan(graph, table);
    pack_weights(graph, plan, threads);
  }

  Graph graph;  ///< without weights
  const kernels::KernelTable& table;
  Plan plan;
};

}  // namespace intaglio
