#include "graph/graph.h"

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
    bytes += constant.view().size_bytes();
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

const char* kind_name(const OpParams& params) {
  return std::visit(
      Overloaded{
          [](const PatchesOp&) { return "patches"; }, [](const LookupOp&) { return "lookup"; },
          [](const EmbedOp&) { return "embed"; }, [](const LayerNormOp&) { return "layernorm"; },
          [](const LinearOp&) { return "linear"; }, [](const AttentionOp&) { return "attention"; },
          [](const GeluOp&) { return "gelu"; }, [](const ResidualAddOp&) { return "residual_add"; },
          [](const SelectRowsOp&) { return "select_rows"; }},
      params);
}

std::size_t multiply_accumulates(const Graph& graph, const Op& op) {
  if (const auto* linear = std::get_if<LinearOp>(&op.params)) {
    const auto& weight = linear->weight.shape();  // the elements may be gone
    return graph.values[linear->dst].shape[0] * weight[0] * weight[1];
  }
  if (const auto* attention = std::get_if<AttentionOp>(&op.params)) {
    const auto& dst = graph.values[attention->dst].shape;
    return 2 * dst[0] * dst[0] * dst[1];
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
