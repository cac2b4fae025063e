// What a Model is made of; for the engine's own files.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "engine/intaglio.h"
#include "engine/pack.h"
#include "engine/plan.h"
#include "graph/graph.h"

namespace intaglio {

/// What is asked of an inference.
struct Request {
  std::size_t height = 0, width = 0;
  /// Indices into Graph::features, rising; empty: the logits are wanted, not features.
  std::vector<std::size_t> features;
  bool operator==(const Request&) const = default;
};

/// A graph at one size of images and its plan.
struct SizedPlan {
  Request request;
  Graph graph;
  Plan plan;
};

struct Model::Impl {
  /// `threads` share the work.
  Impl(Graph model_graph, const kernels::KernelTable& kernel_table, std::size_t threads);

  /// The plan for other sizes and for features: the latest are kept, and shared by sessions. Throws
  /// Error where the model does not take the size.
  std::shared_ptr<const SizedPlan> plan_for(const Request& request) const;

  const kernels::KernelTable& table;
  PackedWeights packed;
  std::shared_ptr<const SizedPlan> own;  ///< logits at the size of the file

 private:
  static constexpr std::size_t kKept = 16;
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const SizedPlan>> kept_;  ///< the latest last
};

}  // namespace intaglio
