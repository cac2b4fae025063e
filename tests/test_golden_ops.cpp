// Every operation, fed the reference's own codes, against the codes the reference made of them.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>

#include "converters/lower.h"
#include "engine/steps.h"
#include "kernels/scalar/scalar.h"
#include "tests/support/golden_model.h"

namespace intaglio::test {
namespace {

/// How two sets of codes compare.
struct Agreement {
  std::size_t elements = 0;
  std::size_t equal = 0;
  int largest = 0;

  void add(std::span<const std::uint8_t> found, std::span<const std::uint8_t> expected) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      const int distance = std::abs(int{found[i]} - int{expected[i]});
      largest = std::max(largest, distance);
      equal += distance == 0;
      ++elements;
    }
  }
  double share() const { return static_cast<double>(equal) / static_cast<double>(elements); }
};

/// Distances of codes from an exact, unrounded result.
struct Distance {
  double sum = 0;
  double worst = 0;
  std::size_t elements = 0;

  void add(double code, double exact) {
    const double d = std::abs(code - exact);
    sum += d;
    worst = std::max(worst, d);
    ++elements;
  }
  double mean() const { return sum / static_cast<double>(elements); }
};

/// Runs one operation on explicit operands; the result has T's type.
template <typename T>
std::vector<T> execute(const Graph& graph, const Op& op, const void* a,
                       const std::uint8_t* b = nullptr, std::size_t image_stride = 0) {
  const auto step = make_step(graph, op, kernels::table_of(kernels::best_isa()));
  const PageMemory packed(step->packed_bytes());
  step->pack(packed.data());
  const Value& result = graph.values[result_of(op)];
  std::vector<T> dst(rows_of(result) * channels_of(result));
  std::vector<std::byte> scratch(step->scratch_bytes());
  step->run({a, b, image_stride, dst.data()}, 0, step->units(), scratch.data());
  return dst;
}

const Op& find_op(const Graph& graph, const std::string& name) {
  for (const Op& op : graph.ops) {
    if (op.name == name) return op;
  }
  FAIL("no operation " << name);
  return graph.ops[0];
}

/// The tap that holds a value; a value of the graph without a tap is computed from those before it.
const std::string& value_name(const Graph& graph, ValueId id) {
  return graph.values[id].name;
}

/// The steps of attention in one head of a window, on scalar kernels.
struct Head {
  const Graph& graph;
  const AttentionOp& op;
  const Windows& windows;
  std::size_t window, head;
  const std::uint8_t* q;  ///< of the window's first token

  std::size_t tokens() const { return windows.tokens(); }
  std::size_t dim() const { return channels_of(graph.values[op.dst]); }
  std::size_t head_dim() const { return dim() / static_cast<std::size_t>(op.heads); }
  std::int32_t zero_src() const { return graph.values[op.src].grid.zero_point; }

  std::vector<std::uint8_t> scores() const {
    std::vector<std::uint8_t> scores(tokens() * tokens());
    kernels::scalar::attention_scores(
        {zero_src(), op.score_multiplier, op.score_shift, op.score_zero_point}, q, tokens(),
        q + dim(), tokens(), head_dim(), 3 * dim(), scores.data());
    return scores;
  }
  std::vector<std::uint8_t> biased(std::span<const std::uint8_t> scores) const {
    const auto side = static_cast<std::size_t>(op.window);
    const kernels::BiasParams params{2 * side - 1, side, op.bias_multiplier, op.bias_shift,
                                     op.bias_zero_point};
    std::vector<std::uint8_t> biased(scores.size());
    std::vector<std::int32_t> bias(tokens());
    for (std::size_t i = 0; i < tokens(); ++i) {
      for (std::size_t j = 0; j < tokens(); ++j) {
        const std::size_t y = i / side + side - 1 - j / side;
        const std::size_t x = i % side + side - 1 - j % side;
        bias[j] = op.bias[(head * params.side + y) * params.side + x];
      }
      kernels::scalar::add_bias(params, op.score_zero_point, bias.data(), &scores[i * tokens()],
                                tokens(), &biased[i * tokens()]);
    }
    return biased;
  }
  /// A token attends to those of its own piece; the reference, to others with the code of 0.
  std::vector<std::uint8_t> softmax(std::span<const std::uint8_t> scores) const {
    std::vector<std::uint8_t> codes(scores.size(), kernels::kZeroCode);
    for (std::size_t i = 0; i < tokens(); ++i) {
      std::vector<std::uint8_t> row;
      for (std::size_t j = 0; j < tokens(); ++j) {
        if (windows.together(window, i, j)) row.push_back(scores[i * tokens() + j]);
      }
      kernels::scalar::softmax_codes(params(), row.data(), 1, row.size(), row.data());
      for (std::size_t j = 0, at = 0; j < tokens(); ++j) {
        if (windows.together(window, i, j)) codes[i * tokens() + j] = row[at++];
      }
    }
    return codes;
  }
  /// The rows of dst are those of the window's tokens.
  void attend(std::span<const std::uint8_t> codes, std::uint8_t* dst) const {
    kernels::scalar::attend_codes(
        params(),
        {zero_src(), op.attend_multiplier, op.attend_shift, graph.values[op.dst].grid.zero_point},
        codes.data(), tokens(), q + 2 * dim(), tokens(), head_dim(), 3 * dim(), dst, dim());
  }
  kernels::SoftmaxParams params() const { return {.exponentials = op.exponentials.data()}; }
};

class GoldenOps {
 public:
  explicit GoldenOps(const GoldenModel& model) : m_(model) {}

  void run() {
    for (const Op& op : m_.graph.ops) {
      for (std::size_t image = 0; image < m_.images(); ++image) {
        std::visit([&](const auto& params) { compare(op, params, image); }, op.params);
      }
    }
    for (auto& [kind, agreement] : agreements_) {
      std::printf("%-24s %-14s %8zu codes, %9.5f %% equal, at most %d apart\n", m_.name.c_str(),
                  kind.c_str(), agreement.elements, 100 * agreement.share(), agreement.largest);
    }
  }

  const Agreement& of(const std::string& kind) { return agreements_[kind]; }

 private:
  void compare(const Op& op, const PatchesOp& patches, std::size_t image) {
    const auto& in = m_.graph.values[m_.graph.input].shape;
    const auto pixels = m_.tap("input_u8", image);
    patches_ = execute<std::uint8_t>(m_.graph, op, pixels.data(), nullptr, 3 * in[1]);
    images_[image] = patches_;
    if (!m_.has_tap("qact_input")) return;  // without an input quantizer the pixel is the code
    const auto planes = m_.tap("qact_input", image);  // [3, height, width]
    const auto patch = static_cast<std::size_t>(patches.patch);
    const std::size_t columns = in[1] / patch;
    std::vector<std::uint8_t> expected(patches_.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const std::size_t c = i % 3;
      const std::size_t x = i / 3 % patch;
      const std::size_t y = i / 3 / patch % patch;
      const std::size_t p = i / 3 / patch / patch;
      expected[i] = planes[(c * in[0] + p / columns * patch + y) * in[1] + p % columns * patch + x];
    }
    agreements_["pixels"].add(patches_, expected);
  }
  void compare(const Op& op, const LinearOp& linear, std::size_t image) {
    const std::string& dst = value_name(m_.graph, linear.dst);
    if (m_.graph.values[linear.dst].dtype != DType::kU8) return;  // fc1 with GELU; head below
    const std::string& src = value_name(m_.graph, linear.src);
    const auto operand = src == "qact_input" ? images_[image] : m_.rows(src, image);
    agreements_["gemm"].add(execute<std::uint8_t>(m_.graph, op, operand.data()),
                            m_.rows(dst, image));
  }
  void compare(const Op& op, const EmbedOp& embed, std::size_t image) {
    const auto src = m_.tap(value_name(m_.graph, embed.src), image);
    agreements_["residual"].add(execute<std::uint8_t>(m_.graph, op, src.data()),
                                m_.tap("qact1", image));
  }
  void compare(const Op& op, const ResidualAddOp& add, std::size_t image) {
    const auto a = m_.rows(value_name(m_.graph, add.a), image);
    const auto b = m_.tap(value_name(m_.graph, add.b), image);
    agreements_["residual"].add(execute<std::uint8_t>(m_.graph, op, a.data(), b.data()),
                                m_.tap(value_name(m_.graph, add.dst), image));
  }
  void compare(const Op& op, const GeluOp& gelu, std::size_t image) {
    const std::string prefix = op.name.substr(0, op.name.size() - 3);  // "blocks.0.mlp."
    const Op& fc1 = find_op(m_.graph, prefix + "fc1");
    const auto src = m_.tap(value_name(m_.graph, std::get<LinearOp>(fc1.params).src), image);
    const auto hidden = execute<std::int16_t>(m_.graph, fc1, src.data());
    agreements_["gelu"].add(execute<std::uint8_t>(m_.graph, op, hidden.data()),
                            m_.tap(value_name(m_.graph, gelu.dst), image));
  }
  void compare(const Op& op, const MeanRowsOp& mean, std::size_t image) {
    const auto src = m_.tap(value_name(m_.graph, mean.src), image);
    agreements_["mean"].add(execute<std::uint8_t>(m_.graph, op, src.data()),
                            m_.tap(value_name(m_.graph, mean.dst), image));
  }
  /// Head by head of window by window, each step fed the reference's codes. Fed what the step
  /// before made instead, they must give what the whole operation gives.
  void compare(const Op& op, const AttentionOp& attention, std::size_t image) {
    const Windows windows(m_.graph, attention);
    const auto heads = static_cast<std::size_t>(attention.heads);
    const std::size_t tokens = windows.tokens();
    const std::size_t dim = channels_of(m_.graph.values[attention.dst]);
    const auto qkv = m_.tap(op.name + ".qact1", image);
    std::vector<std::uint8_t> result(windows.count() * tokens * dim);
    std::vector<std::uint8_t> chained(result.size());
    for (std::size_t i = 0; i < windows.count() * heads; ++i) {
      const std::size_t first = i / heads * tokens;  // token of the window
      const std::size_t channel = i % heads * (dim / heads);
      const Head head{m_.graph,  attention, windows,
                      i / heads, i % heads, qkv.data() + first * 3 * dim + channel};
      const auto part = [&](const char* tap) {
        return m_.tap(op.name + tap, image).subspan(i * tokens * tokens, tokens * tokens);
      };
      const auto scores = head.scores();
      agreements_["scores"].add(scores, part(".qact_attn1"));
      const bool bias = attention.bias.size() != 0;
      if (bias) agreements_["bias"].add(head.biased(part(".qact_attn1")), part(".qact2"));
      agreements_["softmax"].add(head.softmax(part(bias ? ".qact2" : ".qact_attn1")),
                                 part(".log_int_softmax"));
      head.attend(part(".log_int_softmax"), result.data() + first * dim + channel);
      head.attend(head.softmax(bias ? head.biased(scores) : scores),
                  chained.data() + first * dim + channel);
    }
    agreements_["attend"].add(result, m_.tap(m_.graph.values[attention.dst].name, image));
    const auto rows = m_.rows(op.name + ".qact1", image);
    CHECK(execute<std::uint8_t>(m_.graph, op, rows.data()) == windows.map_of(chained));
  }
  void compare(const Op&, const LookupOp&, std::size_t) { FAIL("no golden model regrids"); }
  void compare(const Op&, const LayerNormOp&, std::size_t) {}  // its own test
  void compare(const Op&, const SelectRowsOp&, std::size_t) {}

  const GoldenModel& m_;
  std::vector<std::uint8_t> patches_;
  std::map<std::size_t, std::vector<std::uint8_t>> images_;
  std::map<std::string, Agreement> agreements_;
};

const Layer& find_layer(const Network& network, const std::string& name) {
  for (const Layer& layer : network.layers) {
    if (layer.name == name) return layer;
  }
  FAIL("no layer " << name);
  return network.layers[0];
}

/// The codes that the LayerNorm `op` reads, a row for each of its result.
std::vector<std::uint8_t> norm_operand(const GoldenModel& model, const std::string& tap,
                                       const LayerNormOp& op, std::size_t image) {
  const auto codes = model.tap(tap, image);
  if (op.merge == 1) return {codes.begin(), codes.end()};
  const auto& src = model.graph.values[op.src].shape;
  const auto& dst = model.graph.values[op.dst].shape;
  std::vector<std::uint8_t> merged;
  for (std::size_t i = 0; i < dst[0] * dst[1] * 4; ++i) {
    const std::size_t y = i / 4 / dst[1] * 2 + i % 2;  // down first
    const std::size_t x = i / 4 % dst[1] * 2 + i / 2 % 2;
    const auto part = codes.subspan((y * src[1] + x) * src[2], src[2]);
    merged.insert(merged.end(), part.begin(), part.end());
  }
  return merged;
}

/// LayerNorm of one row of codes in double, by its definition (no integer shortcut): codes,
/// unrounded and not clamped.
std::vector<double> exact_norm(const Grid& src, const Grid& dst, const FloatNorm& norm,
                               std::span<const std::uint8_t> row) {
  std::vector<double> x(row.size());
  double mean = 0;
  for (std::size_t c = 0; c < x.size(); ++c) {
    // Merged rows repeat the channels.
    const int exponent = src.exponents.empty() ? 0 : src.exponents[c % src.exponents.size()];
    x[c] = std::ldexp(src.scale, exponent) * (row[c] - src.zero_point);
    mean += x[c] / static_cast<double>(x.size());
  }
  double variance = 0;
  for (const double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
  for (std::size_t c = 0; c < x.size(); ++c) {
    x[c] = ((x[c] - mean) / std::sqrt(variance) * norm.gamma[c] + norm.beta[c]) / dst.scale +
           dst.zero_point;
  }
  return x;
}

}  // namespace

TEST_CASE("operations give the reference's codes") {
  const auto name = GENERATE(from_range(golden_model_names()));
  const auto model = load_golden_model(name);
  if (!model) return;
  INFO(name);
  GoldenOps ops(*model);
  ops.run();
  const auto& grids = model->model.calibration.grids;
  std::vector<const char*> kinds = {"gemm", "scores", "residual", "attend"};
  if (grids.contains("qact3")) kinds.insert(kinds.end(), {"bias", "mean"});  // Swin's
  if (grids.contains("qact_input")) CHECK(ops.of("pixels").share() == 1.0);
  for (const char* kind : kinds) {
    INFO(kind);
    CHECK(ops.of(kind).share() >= 0.999);
    CHECK(ops.of(kind).largest <= 1);
  }
  CHECK(ops.of("softmax").share() >= 0.998);
  CHECK(ops.of("gelu").largest <= 1);
}

TEST_CASE("LayerNorm is no farther from the exact result than the reference") {
  const auto name = GENERATE(from_range(golden_model_names()));
  const auto model = load_golden_model(name);
  if (!model) return;
  Distance all_ours, all_theirs;
  Agreement rounded;
  for (const Op& op : model->graph.ops) {
    const auto* norm = std::get_if<LayerNormOp>(&op.params);
    if (norm == nullptr) continue;
    const Network& network = model->model.network;
    const Layer& layer = find_layer(network, op.name);
    const Layer& src_layer = network.layers[layer.src];
    // Rows that are only selected have no tap of their own, nor have merged ones.
    const bool moved = std::holds_alternative<SelectLayer>(src_layer.op) ||
                       std::holds_alternative<MergeLayer>(src_layer.op);
    const std::string& tap = moved ? network.layers[src_layer.src].result : src_layer.result;
    const Value& src = model->graph.values[norm->src];
    const Value& dst = model->graph.values[norm->dst];
    const std::size_t dim = channels_of(dst);
    Distance ours, theirs;
    for (std::size_t image = 0; image < model->images(); ++image) {
      const auto found = execute<std::uint8_t>(model->graph, op, model->tap(tap, image).data());
      const auto operand = norm_operand(*model, tap, *norm, image);
      const auto reference = model->tap(dst.name, image);
      for (std::size_t at = 0; at < found.size(); at += dim) {
        const auto exact = exact_norm(src.grid, dst.grid, std::get<NormLayer>(layer.op),
                                      std::span(operand).subspan(at, dim));
        for (std::size_t c = 0; c < dim; ++c) {
          const double clamped = std::clamp(exact[c], 0.0, 255.0);
          ours.add(found[at + c], clamped);
          theirs.add(reference[at + c], clamped);
          all_ours.add(found[at + c], clamped);
          all_theirs.add(reference[at + c], clamped);
          const auto code = static_cast<std::uint8_t>(std::nearbyint(clamped));
          rounded.add({&found[at + c], 1}, {&code, 1});
        }
      }
    }
    INFO(name << " " << op.name);
    CHECK(ours.mean() <= theirs.mean());
    CHECK(ours.worst <= theirs.worst);
  }
  std::printf(
      "%-24s %-14s %8zu codes, %9.5f %% as exact; from exact: %.4f on average, %.4f at worst; "
      "reference %.4f, %.4f\n",
      name.c_str(), "layernorm", all_ours.elements, 100 * rounded.share(), all_ours.mean(),
      all_ours.worst, all_theirs.mean(), all_theirs.worst);
  CHECK(rounded.largest <= 1);
}

TEST_CASE("GELU behind fc1 is never more than one code from exact") {
  const auto name = GENERATE(from_range(golden_model_names()));
  const auto model = load_golden_model(name);
  if (!model) return;
  const Network& network = model->model.network;
  const auto& grids = model->model.calibration.grids;
  Agreement rounded;
  for (const Layer& layer : network.layers) {
    if (!std::holds_alternative<GeluLayer>(layer.op)) continue;
    const Layer& products = network.layers[layer.src];
    const auto& fc1 = std::get<LinearLayer>(products.op);
    const Grid& src_grid = grids.at(network.layers[products.src].result);
    const Grid& gelu_grid = grids.at(layer.result);
    const std::vector<float>& weight_scale =
        model->model.calibration.weights.at(products.name).scale;
    const auto weight = quantize_weight(fc1.weight, weight_scale);
    const auto src = model->tap(network.layers[products.src].result, 0);
    const auto hidden =
        execute<std::int16_t>(model->graph, find_op(model->graph, products.name), src.data());
    const auto found =
        execute<std::uint8_t>(model->graph, find_op(model->graph, layer.name), hidden.data());
    std::vector<std::uint8_t> expected(found.size());
    for (std::size_t at = 0; at < found.size(); ++at) {
      const std::size_t row = at / fc1.n;
      const std::size_t n = at % fc1.n;
      std::int64_t acc = 0;
      for (std::size_t k = 0; k < fc1.k; ++k) {
        acc += (src[row * fc1.k + k] - src_grid.zero_point) * weight[n * fc1.k + k];
      }
      const double x = src_grid.scale * weight_scale[n] * double(acc) + fc1.bias[n];
      const double gelu = 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
      const double code = std::nearbyint(gelu / gelu_grid.scale + gelu_grid.zero_point);
      expected[at] = static_cast<std::uint8_t>(std::clamp(code, 0.0, 255.0));
    }
    rounded.add(found, expected);
  }
  std::printf("%-24s %-14s %8zu codes, %9.5f %% as exact, at most %d apart\n", name.c_str(), "gelu",
              rounded.elements, 100 * rounded.share(), rounded.largest);
  CHECK(rounded.largest <= 1);
  CHECK(rounded.share() >= 0.98);
}

}  // namespace intaglio::test
