#include "converters/integer_run.h"

#include <algorithm>
#include <cassert>
#include <functional>
#include <numeric>
#include <variant>

namespace intaglio {
namespace {

std::size_t bytes_of(const Value& value) {
  return std::accumulate(value.shape.begin(), value.shape.end(), dtype_size(value.dtype),
                         std::multiplies<>());
}

}  // namespace

IntegerSteps::IntegerSteps(const Graph& graph)
    : graph_(graph), last_reader_(graph.values.size(), graph.ops.size()) {
  const kernels::KernelTable& table = kernels::table_of(kernels::best_isa());
  for (std::size_t i = 0; i < graph.ops.size(); ++i) {
    Ready ready{make_step(graph, graph.ops[i], table), nullptr};
    if (ready.step != nullptr) {
      ready.packed = std::make_unique<PageMemory>(ready.step->packed_bytes());
      ready.step->pack(ready.packed->data());
      scratch_bytes_ = std::max(scratch_bytes_, ready.step->scratch_bytes());
    }
    ready_.push_back(std::move(ready));
    for (const ValueId id : inputs_of(graph.ops[i])) last_reader_[id] = i;
  }
}

IntegerRun::IntegerRun(const IntegerSteps& steps, std::span<const std::uint8_t> pixels)
    : steps_(steps),
      pixels_(pixels),
      values_(steps.graph().values.size()),
      scratch_(steps.scratch_bytes_) {
  assert(pixels.size() == bytes_of(steps.graph().values[steps.graph().input]));
}

std::span<const std::byte> IntegerRun::value(ValueId id) {
  if (id == steps_.graph().input) return std::as_bytes(pixels_);
  while (values_[id].empty()) execute(done_++);
  return values_[id];
}

void IntegerRun::execute(std::size_t index) {
  const Graph& graph = steps_.graph();
  const Op& op = graph.ops.at(index);
  release_unread();
  const ValueId dst = result_of(op);
  values_[dst].resize(bytes_of(graph.values[dst]));
  const std::vector<ValueId> inputs = inputs_of(op);
  const std::span<const std::byte> a = value(inputs[0]);
  if (const auto* select = std::get_if<SelectRowsOp>(&op.params)) {
    const Value& src = graph.values[select->src];
    const std::size_t row = src.shape[1] * dtype_size(src.dtype);
    const auto* first = a.data() + static_cast<std::size_t>(select->first) * row;
    std::copy_n(first, values_[dst].size(), values_[dst].data());
    return;
  }
  const Operands operands = {.a = a.data(),
                             .b = inputs.size() > 1 ? value(inputs[1]).data() : nullptr,
                             .image_stride = 3 * graph.values[graph.input].shape[1],
                             .dst = values_[dst].data()};
  const Step& step = *steps_.ready_[index].step;
  step.run(operands, 0, step.units(), scratch_.data());
}

void IntegerRun::release_unread() {
  for (std::size_t id = 0; id < values_.size(); ++id) {
    // done_ counts the operation about to be executed, whose operands must stay.
    if (steps_.last_reader_[id] + 1 < done_) values_[id] = {};
  }
}

}  // namespace intaglio
