#include "engine/pack.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "graph/fields.h"
#include "graph/parallel.h"

namespace intaglio {
namespace {

/// A visitor that makes constants own their elements, but for weights.
struct CopyConstants {
  template <typename T>
  void constant(const char*, Constant<T>& constant) const {
    const auto view = constant.view();
    constant = Constant<T>(constant.shape(), std::vector<T>(view.begin(), view.end()));
  }
  void constant(const char*, Constant<std::int8_t>&) const {}
  template <typename T>
  void optional_constant(const char* field, Constant<T>& constant) const {
    if (constant.size() != 0) this->constant(field, constant);
  }
  void input(const char*, ValueId) const {}
  void optional_input(const char*, const std::optional<ValueId>&) const {}
  void output(const char*, ValueId) const {}
  void integer(const char*, std::int32_t) const {}
  void real(const char*, double) const {}
  void form(const char*, SoftmaxForm) const {}
};

/// One step's weights and where they go.
struct Packing {
  const PlannedStep* planned = nullptr;
  const std::byte* source = nullptr;
  std::size_t offset = 0;
};

/// In the order of the file, which is the order in which its memory is given back.
std::vector<Packing> list_packings(const Plan& plan) {
  std::vector<Packing> list;
  for (const PlannedStep& planned : plan.steps) {
    if (planned.step->packed_bytes() == 0) continue;
    list.push_back({&planned, planned.step->packed_from(), 0});
  }
  std::sort(list.begin(), list.end(),
            [](const Packing& x, const Packing& y) { return std::less<>()(x.source, y.source); });
  return list;
}

/// Forgets the elements and keeps the shape.
void forget_weights(Graph& graph) {
  for (Op& op : graph.ops) {
    auto* linear = std::get_if<LinearOp>(&op.params);
    if (linear == nullptr) continue;
    linear->weight = Constant<std::int8_t>(linear->weight.shape(), {}, nullptr);
  }
  graph.memory.reset();
}

}  // namespace

void copy_small_constants(Graph& graph) {
  const CopyConstants copy;
  for (Op& op : graph.ops) {
    std::visit([&](auto& params) { visit_fields(copy, params); }, op.params);
  }
}

PackedWeights pack_weights(Graph& graph, Plan& plan, std::size_t threads) {
  constexpr std::size_t kAlignment = 64;
  constexpr std::size_t kWorthAThread = std::size_t{8} << 20;
  std::vector<Packing> list = list_packings(plan);
  std::size_t bytes = 0;
  for (Packing& packing : list) {
    packing.offset = bytes;
    bytes += (packing.planned->step->packed_bytes() + kAlignment - 1) / kAlignment * kAlignment;
  }
  PackedWeights packed = {std::make_unique<PageMemory>(bytes), {}};

  std::mutex mutex;
  std::vector<bool> done(list.size());
  std::size_t all_done = 0;  // up to here
  const auto pack = [&](std::size_t i) {
    list[i].planned->step->pack(packed.memory->data() + list[i].offset);
    const std::lock_guard lock(mutex);
    done[i] = true;
    while (all_done < list.size() && done[all_done]) ++all_done;
    if (all_done < list.size() && graph.memory != nullptr) {
      graph.memory->discard_before(list[all_done].source);
    }
  };
  run_pieces(list.size(), std::min(threads, 1 + bytes / kWorthAThread), pack);
  for (const Packing& packing : list) {
    packed.of_op[packing.planned->op] = packed.memory->data() + packing.offset;
  }
  forget_weights(graph);
  return packed;
}

void use_packed_weights(Plan& plan, const PackedWeights& packed) {
  for (PlannedStep& planned : plan.steps) {
    if (planned.step->packed_bytes() == 0) continue;
    planned.step->use_packed(packed.of_op.at(planned.op));
  }
}

}  // namespace intaglio
