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

/// Operands of an operation, as ids.
struct Uses {
  ValueId a = 0;
  std::optional<ValueId> b;
  ValueId dst = 0;
};

Uses uses_of(const Op& op) {
  return std::visit(
      [](const auto& params) -> Uses {
        if constexpr (requires { params.b; }) {
          return {params.a, params.b, params.dst};
        } else {
          return {params.src, std::nullopt, params.dst};
        }
      },
      op.params);
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

/// Greedy by size: the largest block first, each at the lowest offset where it overlaps no block
/// that is alive at the same time.
std::size_t lay_out(std::vector<Block>& blocks) {
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
      if (together && offset < other->offset + other->bytes &&
          other->offset < offset + block->bytes) {
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

}  // namespace

Plan make_plan(const Graph& graph, const kernels::KernelTable& table) {
  std::vector<Placement> places(graph.values.size());
  std::vector<Block> blocks;
  for (std::size_t i = 0; i < graph.ops.size(); ++i) {
    const Uses uses = uses_of(graph.ops[i]);
    for (const std::optional<ValueId>& read : {std::optional(uses.a), uses.b}) {
      if (read && places[*read].block) blocks[*places[*read].block].last = i;
    }
    const Value& dst = graph.values[uses.dst];
    if (const auto* select = std::get_if<SelectRowsOp>(&graph.ops[i].params)) {
      const std::size_t row = bytes_of(dst) / dst.shape[0];
      places[uses.dst] = {places[uses.a].block,
                          places[uses.a].offset + static_cast<std::size_t>(select->first) * row};
    } else if (uses.dst != graph.output) {
      places[uses.dst] = {blocks.size(), 0};
      blocks.push_back({aligned(bytes_of(dst)), i, i, 0});
    }
  }

  Plan plan;
  plan.arena_bytes = lay_out(blocks);
  const auto locate = [&](ValueId id) -> Location {
    if (id == graph.input) return {Location::Place::kImage, 0};
    if (!places[id].block) return {Location::Place::kLogits, 0};
    return {Location::Place::kArena, blocks[*places[id].block].offset + places[id].offset};
  };
  for (const Op& op : graph.ops) {
    std::unique_ptr<Step> step = make_step(graph, op, table);
    if (step == nullptr) continue;
    const Uses uses = uses_of(op);
    std::size_t bytes = bytes_of(graph.values[uses.a]) + bytes_of(graph.values[uses.dst]);
    if (uses.b) bytes += bytes_of(graph.values[*uses.b]);
    plan.infos.push_back({op.name, kind_name(op.params), multiply_accumulates(graph, op),
                          constant_bytes(op), bytes});
    plan.scratch_bytes = std::max(plan.scratch_bytes, aligned(step->scratch_bytes()));
    plan.steps.push_back(
        {std::move(step), locate(uses.a), uses.b ? locate(*uses.b) : Location{}, locate(uses.dst)});
  }
  return plan;
}

}  // namespace intaglio
