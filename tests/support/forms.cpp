#include "tests/support/forms.h"

#include <algorithm>
#include <cmath>

#include "converters/lower.h"

namespace intaglio::test {
namespace {

double channel_scale(const Grid& grid, std::size_t c) {
  return grid.exponents.empty() ? grid.scale : std::ldexp(grid.scale, grid.exponents[c]);
}

template <typename T>
Constant<T> constant(std::vector<T> elements) {
  const std::size_t n = elements.size();
  return Constant<T>({n}, std::move(elements));
}

/// `linear` and `add` in one, onto the grid of dst.
LinearOp direct_sum(const Graph& graph, const LinearOp& linear, const ResidualAddOp& add) {
  const Grid& codes = graph.values[linear.dst].grid;
  const Grid& stream = graph.values[add.b].grid;
  const Grid& dst = graph.values[add.dst].grid;
  const std::size_t n = linear.multiplier.size();
  std::vector<double> ratios, biases;
  std::vector<double> residual_ratios;
  for (std::size_t c = 0; c < n; ++c) {
    const double ratio = codes.scale / channel_scale(dst, c);
    const std::int64_t half = std::int64_t{1} << (linear.shift - 1);
    ratios.push_back(std::ldexp(linear.multiplier[c], -linear.shift) * ratio);
    biases.push_back(std::ldexp(double(linear.bias[c] - half), -linear.shift) * ratio);
    residual_ratios.push_back(channel_scale(stream, c) / channel_scale(dst, c));
  }
  std::vector<double> all = ratios;
  all.insert(all.end(), residual_ratios.begin(), residual_ratios.end());
  const FixedPoint fixed = to_fixed_point(all, 40);
  LinearOp sum = linear;
  sum.dst = add.dst;
  sum.residual = add.b;
  sum.shift = fixed.shift;
  const auto middle = fixed.multiplier.begin() + std::ptrdiff_t(n);
  sum.multiplier = constant(std::vector<std::int32_t>(fixed.multiplier.begin(), middle));
  sum.residual_multiplier = constant(std::vector<std::int32_t>(middle, fixed.multiplier.end()));
  std::vector<std::int64_t> bias;
  for (const double b : biases) {
    bias.push_back(std::llround(std::ldexp(b, fixed.shift)) +
                   (std::int64_t{1} << (fixed.shift - 1)));
  }
  sum.bias = constant(std::move(bias));
  return sum;
}

}  // namespace

Graph with_direct_sums(const Graph& graph, DType stream) {
  Graph g = graph;
  if (stream == DType::kS16) {
    const auto to_words = [&](ValueId id) {
      Value& value = g.values[id];
      value.dtype = DType::kS16;
      value.grid = {value.grid.scale / 64, 0, {}};
    };
    for (const Op& op : graph.ops) {
      if (const auto* add = std::get_if<ResidualAddOp>(&op.params)) to_words(add->dst);
      if (const auto* select = std::get_if<SelectRowsOp>(&op.params)) to_words(select->dst);
    }
  }
  g.ops.clear();
  std::vector<ValueId> gone;
  for (const Op& op : graph.ops) {
    const auto* add = std::get_if<ResidualAddOp>(&op.params);
    if (add == nullptr) {
      g.ops.push_back(op);
      continue;
    }
    const LinearOp linear = std::get<LinearOp>(g.ops.back().params);
    gone.push_back(linear.dst);
    g.ops.back().params = direct_sum(g, linear, *add);
  }
  // The codes between are nobody's any more.
  std::vector<ValueId> place(g.values.size());
  std::vector<Value> values;
  for (ValueId id = 0; id < g.values.size(); ++id) {
    place[id] = values.size();
    if (std::find(gone.begin(), gone.end(), id) == gone.end()) values.push_back(g.values[id]);
  }
  g.values = std::move(values);
  g.input = place[g.input];
  g.output = place[g.output];
  for (Op& op : g.ops) {
    std::visit(
        [&](auto& params) {
          params.dst = place[params.dst];
          if constexpr (requires { params.src; }) params.src = place[params.src];
          if constexpr (requires { params.residual; }) {
            if (params.residual) params.residual = place[*params.residual];
          }
        },
        op.params);
  }
  return g;
}

Graph with_row_relative_softmax(const Graph& graph) {
  Graph g = graph;
  for (Op& op : g.ops) {
    auto* attention = std::get_if<AttentionOp>(&op.params);
    if (attention == nullptr) continue;
    attention->form = SoftmaxForm::kRowRelative;
    attention->zero_code = 15;
    attention->exponentials = {};
    std::vector<std::uint8_t> codes(256);
    for (std::size_t d = 0; d < 256; ++d) {
      const double code = std::round(double(d) * attention->score_scale * std::log2(std::exp(1.0)));
      codes[d] = static_cast<std::uint8_t>(std::min(code, 15.0));
    }
    attention->codes = constant(std::move(codes));
  }
  return g;
}

}  // namespace intaglio::test
