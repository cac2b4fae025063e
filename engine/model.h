// What a Model is made of; for the engine's own files.
#pragma once

#include "engine/intaglio.h"
#include "engine/plan.h"
#include "graph/graph.h"

namespace intaglio {

struct Model::Impl {
  Impl(Graph model_graph, const kernels::KernelTable& kernel_table)
      : graph(std::move(model_graph)), table(kernel_table), plan(make_plan(graph, table)) {}

  Graph graph;
  const kernels::KernelTable& table;
  Plan plan;
};

}  // namespace intaglio
