// How a graph is executed: its steps in order, and where in one arena each activation lives.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "engine/intaglio.h"
#include "engine/steps.h"
#include "graph/graph.h"

namespace intaglio {

/// Where an operand is.
struct Location {
  enum class Place { kNone, kImage, kArena, kLogits };
  Place place = Place::kNone;
  std::size_t offset = 0;  ///< bytes
};

/// Where the operands of a step are.
struct Places {
  Location a, b, dst;
};

/// What lies where in an arena of activations.
struct Layout {
  std::size_t bytes = 0;          ///< a multiple of 64
  std::vector<Places> steps;      ///< one per step
  std::vector<Location> outputs;  ///< of the values asked for
};

struct PlannedStep {
  std::unique_ptr<Step> step;
  std::size_t op = 0;  ///< index into Graph::ops; of fused ones the first
};

/// Built once per model, immutable, shared by sessions.
struct Plan {
  std::vector<PlannedStep> steps;
  std::vector<StepInfo> infos;    ///< one per step
  std::size_t scratch_bytes = 0;  ///< of one thread, a multiple of 64
  Layout alone;                   ///< for one thread that does all steps
  Layout shared;                  ///< for several that share them
};

/// Decides what is executed, and lays activations out by lifetime: a value's memory is reused once
/// its last reader is done. Where threads share the steps, small values reuse that of their own
/// size only: then the memory of a row stays with the thread that makes the row, and its lines need
/// not come from another core's cache first.
///  - A linear layer and the GELU or residual addition that alone reads its codes are one step.
///  - Rows that nothing reads are not made: for logits, only the class token leaves the last block.
///  Nothing
///    that none of the `outputs` depends on is made at all.
/// The outputs, whole values, stay until the inference ends. The graph has passed check() and
/// outlives the plan. Its weights are not packed yet.
Plan make_plan(const Graph& graph, const kernels::KernelTable& table,
               std::span<const ValueId> outputs);

}  // namespace intaglio
