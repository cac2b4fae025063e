#include "engine/plan.h"

#include <algorithm>
#include <numeric>
#include <optional>

namespace intaglio {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// Operands of a step, as ids.
struct Uses {
  ValueId a = 0;
  std::optional<ValueId> b;
  ValueId dst = 0;
};

Uses uses_of(const Op& op) {
  const std::vector<ValueId> inputs = inputs_of(op);
  Uses uses = {inputs[0], std::nullopt, result_of(op)};
  if (inputs.size() > 1) uses.b = inputs[1];
  return uses;
}

Uses uses_of(const Work& work) {
  Uses uses = uses_of(*work.op);
  if (work.fused == nullptr) return uses;
  const Uses behind = uses_of(*work.fused);
  return {uses.a, behind.b, behind.dst};
}

/// What the rows of a result ask of each operand: of attention all rows, else the same ones.
Rows needed_rows(const Graph& graph, const Op& op, ValueId operand, Rows rows) {
  if (const auto* select = std::get_if<SelectRowsOp>(&op.params)) {
    const auto first = static_cast<std::size_t>(select->first);
    // How many rows of the operand lie side by side in one of the result.
    const std::size_t each =
        channels_of(graph.values[select->dst]) / channels_of(graph.values[select->src]);
    return {first + rows.begin * each, first + rows.end * each};
  }
  const auto* norm = std::get_if<LayerNormOp>(&op.params);
  const bool row_by_row =
      (norm != nullptr && norm->merge == 1) || std::holds_alternative<LinearOp>(op.params) ||
      std::holds_alternative<GeluOp>(op.params) || std::holds_alternative<LookupOp>(op.params) ||
      std::holds_alternative<ResidualAddOp>(op.params);
  return row_by_row ? rows : Rows{0, rows_of(graph.values[operand])};
}

/// Per value the rows that something reads; of the outputs, all.
std::vector<Rows> find_needed_rows(const Graph& graph, std::span<const ValueId> outputs) {
  std::vector<Rows> needed(graph.values.size());
  for (const ValueId id : outputs) needed[id] = {0, rows_of(graph.values[id])};
  const auto widen = [&](ValueId id, Rows rows) {
    Rows& all = needed[id];
    all = all.count() == 0 ? rows
                           : Rows{std::min(all.begin, rows.begin), std::max(all.end, rows.end)};
  };
  for (std::size_t i = graph.ops.size(); i-- > 0;) {
    const Op& op = graph.ops[i];
    const Uses uses = uses_of(op);
    const Rows rows = needed[uses.dst];
    if (rows.count() == 0) continue;
    widen(uses.a, needed_rows(graph, op, uses.a, rows));
    if (uses.b) widen(*uses.b, needed_rows(graph, op, *uses.b, rows));
  }
  return needed;
}

/// Whether `next` can be done to the codes of `op` before they are stored.
bool can_fuse(const Graph& graph, const Op& op, const Op& next, const std::vector<int>& readers) {
  const auto* linear = std::get_if<LinearOp>(&op.params);
  if (linear == nullptr || linear->residual || readers[linear->dst] != 1) return false;
  const DType dtype = graph.values[linear->dst].dtype;
  if (const auto* gelu = std::get_if<GeluOp>(&next.params)) {
    return gelu->src == linear->dst && dtype == DType::kS16;
  }
  const auto* add = std::get_if<ResidualAddOp>(&next.params);
  return add != nullptr && add->a == linear->dst && dtype == DType::kU8;
}

/// Where an attention's rows are not all needed, neither are those of its queries, the first third
/// of what `before` makes.
void narrow_queries(const Graph& graph, const Work& attention, Work& before,
                    const std::vector<int>& readers) {
  const ValueId src = uses_of(attention).a;
  if (uses_of(before).dst != src || readers[src] != 1) return;
  before.narrow_columns = channels_of(graph.values[src]) / 3;
  before.narrow_rows = attention.rows;
}

/// What is executed, in order.
std::vector<Work> schedule(const Graph& graph, std::span<const ValueId> outputs) {
  std::vector<int> readers(graph.values.size());
  for (const ValueId id : outputs) ++readers[id];
  for (const Op& op : graph.ops) {
    const Uses uses = uses_of(op);
    ++readers[uses.a];
    if (uses.b) ++readers[*uses.b];
  }
  const std::vector<Rows> needed = find_needed_rows(graph, outputs);
  std::vector<Work> works;
  for (std::size_t i = 0; i < graph.ops.size(); ++i) {
    Work work;
    work.op = &graph.ops[i];
    if (i + 1 < graph.ops.size() && can_fuse(graph, graph.ops[i], graph.ops[i + 1], readers)) {
      work.fused = &graph.ops[++i];
    }
    work.rows = needed[uses_of(work).dst];
    if (work.rows.count() != 0) works.push_back(work);
  }
  for (std::size_t i = 1; i < works.size(); ++i) {
    if (std::holds_alternative<AttentionOp>(works[i].op->params)) {
      narrow_queries(graph, works[i], works[i - 1], readers);
    }
  }
  return works;
}

std::size_t bytes_of(const Value& value) {
  return std::accumulate(value.shape.begin(), value.shape.end(), dtype_size(value.dtype),
                         std::multiplies<>());
}

/// A block of the arena, alive from the operation that makes it to the last that reads it.
struct Block {
  std::size_t bytes = 0;
  std::size_t first = 0, last = 0;
  std::size_t offset = 0;
};

/// A value is the whole of a block, or a part of one (select_rows).
struct Placement {
  std::optional<std::size_t> block;
  std::size_t offset = 0;
};

/// Whether two blocks that are not alive at the same time may share memory where threads share the
/// steps: of one size, or where no thread's cache would hold its part of the larger one.
bool may_share(const Block& x, const Block& y) {
  constexpr std::size_t kLarge = std::size_t{512} << 10;
  return x.bytes == y.bytes || std::max(x.bytes, y.bytes) > kLarge;
}

/// Greedy by size: the largest block first, each at the lowest offset where it overlaps no block
/// that is alive at the same time, or that it may not share with.
std::size_t lay_out(std::vector<Block>& blocks, bool shared) {
  std::vector<Block*> order;
  for (Block& block : blocks) order.push_back(&block);
  std::stable_sort(order.begin(), order.end(),
                   [](const Block* x, const Block* y) { return x->bytes > y->bytes; });
  std::vector<Block*> placed;  // by offset
  std::size_t end = 0;
  for (Block* block : order) {
    std::size_t offset = 0;
    for (const Block* other : placed) {
      const bool together = block->first <= other->last && other->first <= block->last;
      const bool apart = together || (shared && !may_share(*block, *other));
      if (apart && offset < other->offset + other->bytes && other->offset < offset + block->bytes) {
        offset = other->offset + other->bytes;
      }
    }
    block->offset = offset;
    end = std::max(end, offset + block->bytes);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), block,
                         [](const Block* x, const Block* y) { return x->offset < y->offset; }),
        block);
  }
  return end;
}

/// Where each value lives, and how large the arena must be.
class Arena {
 public:
  Arena(const Graph& graph, const std::vector<Work>& works, std::span<const ValueId> outputs,
        bool shared)
      : graph_(graph), places_(graph.values.size()) {
    for (std::size_t i = 0; i < works.size(); ++i) {
      const Uses uses = uses_of(works[i]);
      for (const std::optional<ValueId>& read : {std::optional(uses.a), uses.b}) {
        if (read && places_[*read].block) blocks_[*places_[*read].block].last = i;
      }
      const Value& dst = graph.values[uses.dst];
      if (const auto* select = std::get_if<SelectRowsOp>(&works[i].op->params)) {
        const Value& src = graph.values[uses.a];
        const std::size_t row = bytes_of(src) / rows_of(src);
        places_[uses.dst] = {
            places_[uses.a].block,
            places_[uses.a].offset + static_cast<std::size_t>(select->first) * row};
      } else if (uses.dst != graph.output) {
        places_[uses.dst] = {blocks_.size(), 0};
        blocks_.push_back({aligned(bytes_of(dst)), i, i, 0});
      }
    }
    for (const ValueId id : outputs) {
      if (places_[id].block) blocks_[*places_[id].block].last = works.size();
    }
    bytes_ = lay_out(blocks_, shared);
  }
  std::size_t bytes() const { return bytes_; }
  Location locate(ValueId id) const {
    if (id == graph_.input) return {Location::Place::kImage, 0};
    if (!places_[id].block) return {Location::Place::kLogits, 0};
    return {Location::Place::kArena, blocks_[*places_[id].block].offset + places_[id].offset};
  }
  Places locate(const Uses& uses) const {
    return {locate(uses.a), uses.b ? locate(*uses.b) : Location{}, locate(uses.dst)};
  }

 private:
  const Graph& graph_;
  std::vector<Placement> places_;
  std::vector<Block> blocks_;
  std::size_t bytes_ = 0;
};

StepInfo info_of(const Graph& graph, const Work& work) {
  const Uses uses = uses_of(work);
  StepInfo info = {work.op->name, kind_name(work.op->params), multiply_accumulates(graph, *work.op),
                   constant_bytes(*work.op),
                   bytes_of(graph.values[uses.a]) + bytes_of(graph.values[uses.dst])};
  if (uses.b) info.activation_bytes += bytes_of(graph.values[*uses.b]);
  if (work.fused != nullptr) {
    info.kind += std::string("+") + kind_name(work.fused->params);
    info.parameter_bytes += constant_bytes(*work.fused);
  }
  return info;
}

}  // namespace

Plan make_plan(const Graph& graph, const kernels::KernelTable& table,
               std::span<const ValueId> outputs) {
  const std::vector<Work> works = schedule(graph, outputs);
  const Arena alone(graph, works, outputs, false);
  // Models need less than three times the memory, but a file could have as many sizes as values.
  constexpr std::size_t kMost = 4;
  const Arena apart(graph, works, outputs, true);
  const Arena& shared = apart.bytes() > kMost * alone.bytes() ? alone : apart;
  Plan plan;
  plan.alone.bytes = alone.bytes();
  plan.shared.bytes = shared.bytes();
  for (const Work& work : works) {
    std::unique_ptr<Step> step = make_step(graph, work, table);
    if (step == nullptr) continue;
    plan.infos.push_back(info_of(graph, work));
    plan.scratch_bytes = std::max(plan.scratch_bytes, aligned(step->scratch_bytes()));
    plan.steps.push_back({std::move(step), static_cast<std::size_t>(work.op - graph.ops.data())});
    plan.alone.steps.push_back(alone.locate(uses_of(work)));
    plan.shared.steps.push_back(shared.locate(uses_of(work)));
  }
  for (const ValueId id : outputs) {
    plan.alone.outputs.push_back(alone.locate(id));
    plan.shared.outputs.push_back(shared.locate(id));
  }
  return plan;
}

}  // namespace intaglio
