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

struct ByteCounter {
  std::size_t bytes = 0;
  void input(const char*, ValueId) {}
  void optional_input(const char*, const std::optional<ValueId>&) {}
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

std::size_t constant_bytes(const Op& op) {
  ByteCounter counter;
  std::visit([&](const auto& params) { visit_fields(counter, params); }, op.params);
  return counter.bytes;
}

}  // namespace intaglio
