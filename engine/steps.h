// One operation of a graph, made ready for one instruction set: kernel parameters filled in,
// weights to be packed. A step works on explicit buffers, so that the plan lays them out and tests
// can run an operation alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "graph/graph.h"
#include "kernels/kernels.h"

namespace intaglio {

/// Buffers of one execution. Dense, except the image, whose rows are `image_stride` bytes apart.
struct Operands {
  const void* a = nullptr;  ///< src, or a of a residual addition
  const void* b = nullptr;  ///< the residual stream
  std::size_t image_stride = 0;
  void* dst = nullptr;
};

/// Rows [begin, end) of a result: the ones that anything reads.
struct Rows {
  std::size_t begin = 0, end = 0;
  std::size_t count() const { return end - begin; }
};

/// What a step does: an operation; or a linear layer together with the operation behind it, the
/// only one to read its codes.
struct Work {
  const Op* op = nullptr;
  const Op* fused = nullptr;  ///< gelu or residual_add, or null
  Rows rows;                  ///< of the result
  /// Of the first `narrow_columns` columns only `narrow_rows` are read: the queries of an attention
  /// of which not all rows are needed.
  std::size_t narrow_columns = 0;
  Rows narrow_rows;
};

/// An executable operation. Its work is `units()` independent pieces, which any threads may share:
/// the result does not depend on the split. Neighbouring units share operands.
class Step {
 public:
  virtual ~Step() = default;
  virtual std::size_t units() const noexcept = 0;
  /// Working memory of one thread.
  virtual std::size_t scratch_bytes() const noexcept { return 0; }
  /// Size of the weights in the order the kernel reads them; 0 for a step without.
  virtual std::size_t packed_bytes() const noexcept { return 0; }
  /// The weights before that.
  virtual const std::byte* packed_from() const noexcept { return nullptr; }
  /// Writes the packed weights to `memory`, 64-byte aligned, which outlives the step. This or
  /// use_packed(), once, before run().
  virtual void pack(std::byte* /*memory*/) noexcept {}
  /// The weights are what another step of the same operation packed.
  virtual void use_packed(const std::byte* /*memory*/) noexcept {}
  /// Does pieces [begin, end).
  virtual void run(const Operands& operands, std::size_t begin, std::size_t end,
                   std::byte* scratch) const noexcept = 0;
};

/// The step of `work`, its weights not yet packed, or null for an operation that is only a view
/// (select_rows). The graph has passed check() and outlives the step, its weights until pack().
std::unique_ptr<Step> make_step(const Graph& graph, const Work& work,
                                const kernels::KernelTable& table);

/// The same for an operation alone and all its rows.
std::unique_ptr<Step> make_step(const Graph& graph, const Op& op,
                                const kernels::KernelTable& table);

}  // namespace intaglio
