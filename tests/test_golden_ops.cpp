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
  const auto& shape = graph.values[result_of(op)].shape;
  std::vector<T> dst(shape[0] * shape[1]);
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
  void compare(const Op& op, const PatchesOp&, std::size_t image) {
    const auto& in = m_.graph.values[m_.graph.input].shape;
    const auto pixels = m_.tap("input_u8", image);
    patches_ = execute<std::uint8_t>(m_.graph, op, pixels.data(), nullptr, 3 * in[1]);
    images_[image] = patches_;
    if (!m_.has_tap("qact_input")) return;  // without an input quantizer the pixel is the code
    const auto planes = m_.tap("qact_input", image);  // [3, height, width]
    const std::size_t patch = m_.vit.vit.patch;
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
    const auto operand =
        src == "qact_input" ? std::span<const std::uint8_t>(images_[image]) : m_.tap(src, image);
    agreements_["gemm"].add(execute<std::uint8_t>(m_.graph, op, operand.data()),
                            m_.tap(dst, image));
  }
  void compare(const Op& op, const EmbedOp& embed, std::size_t image) {
    const auto src = m_.tap(value_name(m_.graph, embed.src), image);
    agreements_["residual"].add(execute<std::uint8_t>(m_.graph, op, src.data()),
                                m_.tap("qact1", image));
  }
  void compare(const Op& op, const ResidualAddOp& add, std::size_t image) {
    const auto a = m_.tap(value_name(m_.graph, add.a), image);
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
  void compare(const Op& op, const AttentionOp& attention, std::size_t image) {
    const Value& dst = m_.graph.values[attention.dst];
    const std::size_t tokens = dst.shape[0];
    const std::size_t dim = dst.shape[1];
    const auto heads = static_cast<std::size_t>(attention.heads);
    const std::size_t head_dim = dim / heads;
    const std::string prefix = op.name + ".";
    const auto qkv = m_.tap(prefix + "qact1", image);
    const auto scores = m_.tap(prefix + "qact_attn1", image);
    const auto codes = m_.tap(prefix + "log_int_softmax", image);
    const std::int32_t zero = m_.graph.values[attention.src].grid.zero_point;
    std::vector<std::uint8_t> map(tokens * tokens);
    std::vector<std::uint8_t> result(tokens * dim);
    for (std::size_t h = 0; h < heads; ++h) {
      const std::uint8_t* q = qkv.data() + h * head_dim;
      const auto part = [&](std::span<const std::uint8_t> all) {
        return all.subspan(h * map.size(), map.size());
      };
      kernels::scalar::attention_scores(
          {zero, attention.score_multiplier, attention.score_shift, attention.score_zero_point}, q,
          tokens, q + dim, tokens, head_dim, 3 * dim, map.data());
      agreements_["scores"].add(map, part(scores));
      const kernels::SoftmaxParams softmax = {.exponentials = attention.exponentials.data()};
      kernels::scalar::softmax_codes(softmax, part(scores).data(), tokens, tokens, map.data());
      agreements_["softmax"].add(map, part(codes));
      kernels::scalar::attend_codes(
          softmax, {zero, attention.attend_multiplier, attention.attend_shift, dst.grid.zero_point},
          part(codes).data(), tokens, q + 2 * dim, tokens, head_dim, 3 * dim,
          result.data() + h * head_dim, dim);
    }
    agreements_["attend"].add(result, m_.tap(dst.name, image));
  }
  void compare(const Op&, const LookupOp&, std::size_t) { FAIL("no golden model regrids"); }
  void compare(const Op&, const LayerNormOp&, std::size_t) {}  // its own test
  void compare(const Op&, const SelectRowsOp&, std::size_t) {}

  const GoldenModel& m_;
  std::vector<std::uint8_t> patches_;
  std::map<std::size_t, std::vector<std::uint8_t>> images_;
  std::map<std::string, Agreement> agreements_;
};

/// Weights of the LayerNorm operation `name`.
const FloatNorm& norm_of(const Vit& vit, const std::string& name) {
  if (name == "norm") return vit.norm;
  const auto& block = vit.blocks.at(std::stoul(name.substr(7)));
  return name.ends_with("norm1") ? block.norm1 : block.norm2;
}

/// LayerNorm of one row of codes in double, by its definition (no integer shortcut): codes,
/// unrounded and not clamped.
std::vector<double> exact_norm(const Grid& src, const Grid& dst, const FloatNorm& norm,
                               std::span<const std::uint8_t> row) {
  std::vector<double> x(row.size());
  double mean = 0;
  for (std::size_t c = 0; c < x.size(); ++c) {
    x[c] = std::ldexp(src.scale, src.exponents[c]) * (row[c] - src.zero_point);
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
  if (model->vit.calibration.grids.contains("qact_input")) CHECK(ops.of("pixels").share() == 1.0);
  for (const char* kind : {"gemm", "scores", "residual", "attend"}) {
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
    const Value& src = model->graph.values[norm->src];
    const Value& dst = model->graph.values[norm->dst];
    const std::string tap =
        src.name == "class_token"
            ? "blocks." + std::to_string(model->vit.vit.blocks.size() - 1) + ".qact4"
            : src.name;
    Distance ours, theirs;
    for (std::size_t image = 0; image < model->images(); ++image) {
      const auto operand = model->tap(tap, image);
      const auto found = execute<std::uint8_t>(model->graph, op, operand.data());
      const auto reference = model->tap(dst.name, image);
      for (std::size_t row = 0; row < src.shape[0]; ++row) {
        const std::size_t at = row * src.shape[1];
        const auto exact = exact_norm(src.grid, dst.grid, norm_of(model->vit.vit, op.name),
                                      operand.subspan(at, src.shape[1]));
        for (std::size_t c = 0; c < src.shape[1]; ++c) {
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
  Agreement rounded;
  for (std::size_t i = 0; i < model->vit.vit.blocks.size(); ++i) {
    const VitBlock& block = model->vit.vit.blocks[i];
    const auto& grids = model->vit.calibration.grids;
    const std::string prefix = "blocks." + std::to_string(i) + ".";
    const Grid& norm2_grid = grids.at(prefix + "qact3");
    const Grid& gelu_grid = grids.at(prefix + "mlp.qact1");
    const std::vector<float>& weight_scale =
        model->vit.calibration.weights.at(prefix + "mlp.fc1").scale;
    const auto weight = quantize_weight(block.fc1.weight, weight_scale);
    const auto src = model->tap(prefix + "qact3", 0);
    const auto hidden =
        execute<std::int16_t>(model->graph, find_op(model->graph, prefix + "mlp.fc1"), src.data());
    const auto found = execute<std::uint8_t>(
        model->graph, find_op(model->graph, prefix + "mlp.act"), hidden.data());
    std::vector<std::uint8_t> expected(found.size());
    for (std::size_t at = 0; at < found.size(); ++at) {
      const std::size_t row = at / block.fc1.n;
      const std::size_t n = at % block.fc1.n;
      std::int64_t acc = 0;
      for (std::size_t k = 0; k < block.fc1.k; ++k) {
        acc += (src[row * block.fc1.k + k] - norm2_grid.zero_point) * weight[n * block.fc1.k + k];
      }
      const double x = norm2_grid.scale * weight_scale[n] * double(acc) + block.fc1.bias[n];
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
