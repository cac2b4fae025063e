#include "graph/graph.h"

#include <functional>
#include <numeric>

#include "graph/fields.h"

namespace intaglio {
namespace {

/// Overloads of lambdas for std::visit.
template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

/// What an operation's fields come to: bytes of constants, values that are read.
struct Summary {
  std::size_t bytes = 0;
  std::vector<ValueId> inputs;
  void input(const char*, ValueId id) { inputs.push_back(id); }
  void optional_input(const char*, const std::optional<ValueId>& id) {
    if (id) inputs.push_back(*id);
  }
  void output(const char*, ValueId) {}
  template <typename T>
  void constant(const char*, const Constant<T>& constant) {
    // By the shape, which stays when the elements are given back.
    const auto& shape = constant.shape();
    if (shape.empty()) return;
    bytes += std::accumulate(shape.begin(), shape.end(), sizeof(T), std::multiplies<>());
  }
  template <typename T>
  void optional_constant(const char* field, const Constant<T>& constant) {
    this->constant(field, constant);
  }
  void integer(const char*, std::int32_t) {}
  void real(const char*, double) {}
  void form(const char*, SoftmaxForm) {}
};

Summary summarize(const Op& op) {
  Summary summary;
  std::visit([&](const auto& params) { visit_fields(summary, params); }, op.params);
  return summary;
}

}  // namespace

std::size_t rows_of(const Value& value) {
  return std::accumulate(value.shape.begin(), value.shape.end() - 1, std::size_t{1},
                         std::multiplies<>());
}

std::size_t channels_of(const Value& value) {
  return value.shape.back();
}

const char* kind_name(const OpParams& params) {
  return std::visit(
      Overloaded{
          [](const PatchesOp&) { return "patches"; }, [](const LookupOp&) { return "lookup"; },
          [](const EmbedOp&) { return "embed"; }, [](const LayerNormOp&) { return "layernorm"; },
          [](const LinearOp&) { return "linear"; }, [](const AttentionOp&) { return "attention"; },
          [](const GeluOp&) { return "gelu"; }, [](const ResidualAddOp&) { return "residual_add"; },
          [](const SelectRowsOp&) { return "select_rows"; },
          [](const MeanRowsOp&) { return "mean_rows"; }},
      params);
}

std::size_t multiply_accumulates(const Graph& graph, const Op& op) {
  if (const auto* linear = std::get_if<LinearOp>(&op.params)) {
    const auto& weight = linear->weight.shape();  // the elements may be gone
    return rows_of(graph.values[linear->dst]) * weight[0] * weight[1];
  }
  if (const auto* attention = std::get_if<AttentionOp>(&op.params)) {
    const Value& dst = graph.values[attention->dst];
    if (attention->window == 0) return 2 * rows_of(dst) * rows_of(dst) * channels_of(dst);
    const auto side = static_cast<std::size_t>(attention->window);
    const auto padded = [&](std::size_t n) { return (n + side - 1) / side * side; };
    return 2 * padded(dst.shape[0]) * padded(dst.shape[1]) * side * side * channels_of(dst);
  }
  return 0;
}

std::vector<ValueId> inputs_of(const Op& op) {
  return summarize(op).inputs;
}

ValueId result_of(const Op& op) {
  return std::visit([](const auto& params) { return params.dst; }, op.params);
}

std::size_t constant_bytes(const Op& op) {
  return summarize(op).bytes;
}

std::size_t constant_bytes(const Graph& graph) {
  std::size_t bytes = 0;
  for (const Op& op : graph.ops) bytes += constant_bytes(op);
  return bytes;
}

}  // namespace intaglio
