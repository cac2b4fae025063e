#include "graph/resize.h"

#include <algorithm>
#include <string>

#include "graph/check.h"
#include "graph/error.h"
#include "kernels/fixed_point.h"

namespace intaglio {
namespace {

/// The shape of each operation's result, from those of its operands.
class Shapes {
 public:
  explicit Shapes(Graph& graph) : graph_(graph) {}

  template <typename OpT>
  void derive(const OpT& op) {  // rows are as they were
    rows_from(op.dst, shape(first_input(op)));
  }
  void derive(const PatchesOp& op) {
    const auto patch = static_cast<std::size_t>(op.patch);
    rows_from(op.dst,
              {(shape(op.src)[0] + patch - 1) / patch, (shape(op.src)[1] + patch - 1) / patch, 0});
  }
  void derive(const LayerNormOp& op) {
    const auto merge = static_cast<std::size_t>(op.merge);
    std::vector<std::size_t> rows = shape(op.src);
    for (std::size_t i = 0; i + 1 < rows.size(); ++i) rows[i] = (rows[i] + merge - 1) / merge;
    rows_from(op.dst, std::move(rows));
  }
  void derive(const MeanRowsOp& op) {
    if (rows_of(graph_.values[op.src]) > kernels::kMaxMeanRows) {
      throw Error(ErrorCode::kLimit, "too many tokens for a mean");
    }
  }

 private:
  template <typename OpT>
  static ValueId first_input(const OpT& op) {
    return op.src;
  }
  static ValueId first_input(const ResidualAddOp& op) { return op.a; }
  const std::vector<std::size_t>& shape(ValueId id) const { return graph_.values[id].shape; }
  /// All but the channels.
  void rows_from(ValueId dst, std::vector<std::size_t> rows) {
    rows.back() = channels_of(graph_.values[dst]);
    graph_.values[dst].shape = std::move(rows);
  }

  Graph& graph_;
};

bool has_padding(const Op& op) {
  if (const auto* patches = std::get_if<PatchesOp>(&op.params)) return patches->padding.size() != 0;
  const auto* attention = std::get_if<AttentionOp>(&op.params);
  return attention == nullptr || (attention->window != 0 && attention->padding.size() != 0);
}

bool is_map(const Value& value) {
  return value.shape.size() == 3;
}

}  // namespace

bool takes_any_size(const Graph& graph) {
  return std::all_of(graph.ops.begin(), graph.ops.end(), [&](const Op& op) {
    if (std::holds_alternative<EmbedOp>(op.params)) return false;
    if (std::holds_alternative<SelectRowsOp>(op.params)) return false;
    // Only maps have sizes; what comes of their mean has none.
    if (std::holds_alternative<PatchesOp>(op.params) && !is_map(graph.values[result_of(op)])) {
      return false;
    }
    return has_padding(op);
  });
}

Graph resized(const Graph& graph, std::size_t height, std::size_t width) {
  Graph result = graph;
  std::vector<std::size_t>& image = result.values[result.input].shape;
  if (image[0] == height && image[1] == width) return result;
  if (!takes_any_size(graph)) {
    throw Error(ErrorCode::kUnsupported, "the model takes images of " + std::to_string(image[1]) +
                                             " x " + std::to_string(image[0]) +
                                             " pixels only, not " + std::to_string(width) + " x " +
                                             std::to_string(height));
  }
  if (height == 0 || width == 0 || height > kMaxImageSide || width > kMaxImageSide) {
    throw Error(ErrorCode::kLimit, "images must have sides of 1 to " +
                                       std::to_string(kMaxImageSide) + " pixels, found " +
                                       std::to_string(width) + " x " + std::to_string(height));
  }
  image = {height, width, 3};
  Shapes shapes(result);
  for (const Op& op : graph.ops) {
    std::visit([&](const auto& params) { shapes.derive(params); }, op.params);
  }
  result.preprocessing.height = static_cast<int>(height);
  result.preprocessing.width = static_cast<int>(width);
  return result;
}

}  // namespace intaglio
