// Runs an integer graph operation by operation, so that every value can be looked at: what accuracy
// is measured on. The session that serves images fuses operations and reuses their memory instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/steps.h"
#include "graph/graph.h"
#include "graph/page_memory.h"

namespace intaglio {

/// The operations of a graph, each alone and with all its rows, for the best instruction set of
/// this CPU. Immutable: several runs may share it.
class IntegerSteps {
 public:
  /// The graph has passed check(), has its weights, and outlives the steps.
  explicit IntegerSteps(const Graph& graph);

  const Graph& graph() const { return graph_; }

 private:
  friend class IntegerRun;
  struct Ready {
    std::unique_ptr<Step> step;  ///< null: a view
    std::unique_ptr<PageMemory> packed;
  };
  const Graph& graph_;
  std::vector<Ready> ready_;              ///< per operation
  std::vector<std::size_t> last_reader_;  ///< per value: the operation after which it may go
  std::size_t scratch_bytes_ = 0;
};

/// One image on its way through the graph. A value lives until its last reader is done.
class IntegerRun {
 public:
  /// pixels [height, width, 3] of the graph's input; steps and pixels outlive the run.
  IntegerRun(const IntegerSteps& steps, std::span<const std::uint8_t> pixels);

  /// The codes of a value, row-major, executed up to there; good until the next call. Values are
  /// asked for in the order in which they are made.
  std::span<const std::byte> value(ValueId id);

 private:
  void execute(std::size_t index);
  void release_unread();

  const IntegerSteps& steps_;
  std::span<const std::uint8_t> pixels_;
  std::vector<std::vector<std::byte>> values_;
  std::size_t done_ = 0;  ///< operations
  PageMemory scratch_;
};

}  // namespace intaglio
