#include "tests/support/forms.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "converters/lower.h"

namespace intaglio::test {
namespace {

template <typename T>
Constant<T> constant(std::vector<T> elements) {
  const std::size_t n = elements.size();
  return Constant<T>({n}, std::move(elements));
}

/// `linear`, whose codes have the grid `from`, onto the grid `to`; with a stream, as its sum.
LinearOp onto_grid(const LinearOp& linear, const Grid& from, const Grid& to, const Grid* stream) {
  const std::size_t n = linear.multiplier.size();
  const std::int64_t half = std::int64_t{1} << (linear.shift - 1);
  std::vector<double> ratios, biases;
  for (std::size_t c = 0; c < n; ++c) {
    const double ratio = from.scale / channel_scale(to, c);
    ratios.push_back(std::ldexp(linear.multiplier[c], -linear.shift) * ratio);
    biases.push_back(std::ldexp(double(linear.bias[c] - half), -linear.shift) * ratio);
  }
  for (std::size_t c = 0; c < n && stream != nullptr; ++c) {
    ratios.push_back(channel_scale(*stream, c) / channel_scale(to, c));
  }
  const FixedPoint fixed = to_fixed_point(ratios, 40);
  LinearOp moved = linear;
  moved.shift = fixed.shift;
  const auto middle = fixed.multiplier.begin() + std::ptrdiff_t(n);
  moved.multiplier = constant(std::vector<std::int32_t>(fixed.multiplier.begin(), middle));
  if (stream != nullptr) {
    moved.residual_multiplier = constant(std::vector<std::int32_t>(middle, fixed.multiplier.end()));
  }
  std::vector<std::int64_t> bias;
  for (const double b : biases) {
    bias.push_back(std::llround(std::ldexp(b, fixed.shift)) +
                   (std::int64_t{1} << (fixed.shift - 1)));
  }
  moved.bias = constant(std::move(bias));
  return moved;
}

/// `linear` and `add` in one, onto the grid of add.dst in `g`.
LinearOp direct_sum(const Graph& g, const LinearOp& linear, const ResidualAddOp& add) {
  LinearOp sum =
      onto_grid(linear, g.values[linear.dst].grid, g.values[add.dst].grid, &g.values[add.b].grid);
  sum.dst = add.dst;
  sum.residual = add.b;
  return sum;
}

/// The u8 embedding `op`, whose result has the grid `from`, in words of `to`'s scale.
EmbedOp embed_words(const EmbedOp& op, const Grid& from, const Grid& to) {
  const std::size_t dim = op.prefix.shape()[1];
  const double finer = from.scale / to.scale;
  const auto word = [](double code) {
    return static_cast<std::int16_t>(std::clamp(std::round(code), -32768.0, 32767.0));
  };
  std::vector<std::int16_t> prefix, position;
  for (std::size_t i = 0; i < op.prefix.size(); ++i) {
    const double ratio = channel_scale(from, i % dim) / to.scale;
    prefix.push_back(word((op.prefix[i] - from.zero_point) * ratio));
  }
  for (const std::int16_t code : op.position.view()) {
    const double unit = std::ldexp(op.position_multiplier, -op.shift);
    position.push_back(word((code - op.position_zero_point) * unit * finer));
  }
  EmbedOp words;
  words.src = op.src, words.dst = op.dst;
  words.prefix = Constant<std::int16_t>(op.prefix.shape(), std::move(prefix));
  words.position = Constant<std::int16_t>(op.position.shape(), std::move(position));
  return words;
}

/// Removes values that no operation names any more.
void remove_values(Graph& g, const std::vector<ValueId>& gone) {
  std::vector<ValueId> place(g.values.size());
  std::vector<Value> values;
  for (ValueId id = 0; id < g.values.size(); ++id) {
    place[id] = values.size();
    if (std::find(gone.begin(), gone.end(), id) == gone.end()) values.push_back(g.values[id]);
  }
  g.values = std::move(values);
  g.input = place[g.input];
  g.output = place[g.output];
  for (Feature& feature : g.features) feature.value = place[feature.value];
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
}

void to_words(Value& value, double scale) {
  value.dtype = DType::kS16;
  value.grid = {scale, 0, {}};
}

/// The embedding `op` of the graph `g` becomes s16, and so does the linear layer before it; a
/// lookup between them goes.
void begin_with_words(Graph& g, const EmbedOp& op, std::vector<ValueId>& gone) {
  const Grid from = g.values[op.dst].grid;
  to_words(g.values[op.dst], from.scale / 64);
  EmbedOp words = embed_words(op, from, g.values[op.dst].grid);
  if (std::holds_alternative<LookupOp>(g.ops.back().params)) {
    gone.push_back(op.src);
    g.ops.pop_back();
  }
  auto& linear = std::get<LinearOp>(g.ops.back().params);
  linear = onto_grid(linear, g.values[linear.dst].grid, g.values[op.dst].grid, nullptr);
  words.src = linear.dst;
  to_words(g.values[linear.dst], g.values[op.dst].grid.scale);
  g.ops.push_back({"embed", std::move(words)});
}

}  // namespace

Graph with_direct_sums(const Graph& graph, DType stream) {
  Graph g = graph;
  g.ops.clear();
  std::vector<ValueId> gone;  // codes between, which are nobody's any more
  for (const Op& op : graph.ops) {
    const auto* add = std::get_if<ResidualAddOp>(&op.params);
    const auto* embed = std::get_if<EmbedOp>(&op.params);
    const auto* select = std::get_if<SelectRowsOp>(&op.params);
    if (embed != nullptr && stream == DType::kS16) {
      begin_with_words(g, *embed, gone);
      continue;
    }
    if (add == nullptr) {
      g.ops.push_back(op);
      if (select != nullptr) {
        g.values[select->dst].dtype = g.values[select->src].dtype;
        g.values[select->dst].grid = g.values[select->src].grid;
      }
      continue;
    }
    Value& sum = g.values[add->dst];
    if (stream == DType::kS16) to_words(sum, sum.grid.scale / 64);
    const LinearOp linear = std::get<LinearOp>(g.ops.back().params);
    gone.push_back(linear.dst);
    g.ops.back().params = direct_sum(g, linear, *add);
  }
  remove_values(g, gone);
  return g;
}

Graph with_gelu_exponents(const Graph& graph) {
  Graph g = graph;
  for (const Op& op : g.ops) {
    const auto* gelu = std::get_if<GeluOp>(&op.params);
    if (gelu == nullptr) continue;
    Value& dst = g.values[gelu->dst];
    for (std::size_t c = 0; c < dst.shape[1]; ++c) {
      dst.grid.exponents.push_back(static_cast<std::uint8_t>(c * 7 / 3 % 4));
    }
  }
  return g;
}

Graph with_two_tokens(const Graph& graph, int row, int first, int second) {
  Graph g = graph;
  auto& norm = std::get<LayerNormOp>(g.ops.end()[-2].params);
  auto& head = std::get<LinearOp>(g.ops.back().params);
  for (const ValueId id : {norm.src, norm.dst}) g.values[id].shape[0] = std::size_t(row) + 2;
  SelectRowsOp select;
  select.src = norm.dst, select.dst = g.values.size(), select.first = row;
  Value pair = g.values[norm.dst];
  const std::size_t dim = pair.shape[1];
  pair.name = "token_pair", pair.shape = {1, 2 * dim};
  g.values.push_back(std::move(pair));
  head.src = select.dst;
  std::vector<std::int8_t> weight;
  for (std::size_t n = 0; n < head.multiplier.size(); ++n) {
    for (const int factor : {first, second}) {
      for (std::size_t k = 0; k < dim; ++k) {
        weight.push_back(static_cast<std::int8_t>(head.weight[n * dim + k] * factor));
      }
    }
  }
  head.weight = Constant<std::int8_t>({head.multiplier.size(), 2 * dim}, std::move(weight));
  g.ops.insert(g.ops.end() - 1, {"token_pair", select});
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

Graph with_uniform_softmax(const Graph& graph) {
  Graph g = graph;
  for (Op& op : g.ops) {
    auto* attention = std::get_if<AttentionOp>(&op.params);
    if (attention == nullptr) continue;
    const double per_one =
        std::ldexp(attention->attend_multiplier, attention->unit_bits - attention->attend_shift);
    const FixedPoint fixed = to_fixed_point(std::array{per_one / 255});
    attention->form = SoftmaxForm::kUniform;
    attention->zero_code = 16;
    attention->exponentials = constant(uniform_exponentials(attention->score_scale));
    attention->probability_factor = constant(std::vector{std::uint64_t{255} << 32});
    attention->attend_multiplier = fixed.multiplier[0];
    attention->attend_shift = fixed.shift;
  }
  return g;
}

}  // namespace intaglio::test
