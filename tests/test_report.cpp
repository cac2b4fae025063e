// The accuracy report: its numbers against independent ones, and its forms.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "converters/float_executor.h"
#include "converters/lower.h"
#include "converters/lower_network.h"
#include "converters/observers.h"
#include "converters/report.h"
#include "engine/intaglio.h"
#include "engine/steps.h"
#include "graph/model_file.h"
#include "tests/support/expect_error.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {
namespace {

constexpr std::size_t kImages = 5;

/// A small network with everything that a comparison needs.
struct Subject {
  Network network;
  Calibration calibration;
  Graph graph;
  std::vector<std::uint8_t> pixels;

  void lower_again() { graph = lower(network, calibration, {}); }
  Accuracy measure(std::size_t threads = 1) const {
    return compare(network, calibration, graph, pixels, kImages, {}, threads);
  }
};

constexpr std::size_t kTokens = 5;  // of 8 x 8 pixels in patches of 4, and the class token

TinyShape shape() {
  TinyShape shape;
  shape.dim = 16, shape.heads = 2, shape.hidden = 32, shape.depth = 2, shape.classes = 7;
  return shape;
}

Subject subject(const TinyShape& shape) {
  const CalibratedVit vit = tiny_vit(shape);
  Subject s{network_of(vit.vit), vit.calibration, {}, {}};
  s.lower_again();
  std::mt19937 random(9);
  s.pixels.resize(kImages * shape.image * shape.image * 3);
  for (std::uint8_t& p : s.pixels) p = static_cast<std::uint8_t>(random());
  return s;
}

/// All tensors of a float run, by name.
class Record : public TensorObserver {
 public:
  std::map<std::string, std::vector<float>> tensors, all_scores;

  explicit Record(const Subject& s) {
    FloatExecutor executor(s.network, 1);
    logits = executor.run(s.pixels, kImages, this);
  }
  void tensor(const std::string& name, std::span<float> values, std::size_t) override {
    tensors[name].assign(values.begin(), values.end());
  }
  bool scores(const std::string& name, std::span<float> values, const ScoreLayout&) override {
    all_scores[name].assign(values.begin(), values.end());
    return false;
  }
  std::vector<float> logits;
};

/// Codes of every value for one image by the scalar kernels, keeping everything.
std::vector<std::vector<std::byte>> all_codes(const Graph& graph,
                                              std::span<const std::uint8_t> pixels) {
  std::vector<std::vector<std::byte>> codes(graph.values.size());
  const auto bytes = std::as_bytes(pixels);
  codes[graph.input].assign(bytes.begin(), bytes.end());
  for (const Op& op : graph.ops) {
    const Value& dst = graph.values[result_of(op)];
    auto& out = codes[result_of(op)];
    out.resize(dst.shape[0] * dst.shape[1] * dtype_size(dst.dtype));
    if (const auto* select = std::get_if<SelectRowsOp>(&op.params)) {
      REQUIRE(select->first == 0);
      out.assign(codes[select->src].begin(), codes[select->src].begin() + long(out.size()));
      continue;
    }
    Operands o;
    o.image_stride = 3 * graph.values[graph.input].shape[1];
    if (const auto* add = std::get_if<ResidualAddOp>(&op.params)) {
      o.a = codes[add->a].data(), o.b = codes[add->b].data();
    } else {
      std::visit(
          [&](const auto& params) {
            if constexpr (requires { params.src; }) o.a = codes[params.src].data();
            if constexpr (requires { params.residual; }) {
              if (params.residual) o.b = codes[*params.residual].data();
            }
          },
          op.params);
    }
    o.dst = out.data();
    const auto step = make_step(graph, op, kernels::scalar_table());
    const PageMemory packed(step->packed_bytes()), scratch(step->scratch_bytes());
    step->pack(packed.data());
    step->run(o, 0, step->units(), scratch.data());
  }
  return codes;
}

double code_at(const Value& value, const std::vector<std::byte>& codes, std::size_t i) {
  const auto load = [&]<typename T>(T code) {
    std::memcpy(&code, codes.data() + i * sizeof(T), sizeof(T));
    return double(code);
  };
  if (value.dtype == DType::kU8) return load(std::uint8_t{});
  return value.dtype == DType::kS16 ? load(std::int16_t{}) : load(std::int32_t{});
}

/// The network with or without features that all rows reach.
void set_features(Subject& s, bool features) {
  if (features) return;
  s.network.features.clear();
  s.lower_again();
}

/// Whether only the class token's row of a value is of use: behind the last attention, without
/// features.
bool only_first_row(const Subject& s, const std::string& name) {
  if (!s.network.features.empty()) return false;
  for (const char* behind : {"blocks.1.attn.qact2", "blocks.1.attn.qact3", "blocks.1.qact2",
                             "blocks.1.qact3", "blocks.1.mlp.", "blocks.1.qact4"}) {
    if (name.starts_with(behind)) return true;
  }
  return false;
}

/// Signal to error ratio of a value over all images, by its definition.
double expected_snr(const Subject& s, const Record& record, const std::string& name) {
  std::size_t id = 0;
  while (s.graph.values.at(id).name != name) ++id;
  const Value& value = s.graph.values[id];
  const std::vector<float>& reals = record.tensors.at(name);
  const std::size_t per_image = reals.size() / kImages;
  double signal = 0, error = 0;
  for (std::size_t image = 0; image < kImages; ++image) {
    const auto bytes = s.pixels.size() / kImages;
    const auto codes = all_codes(s.graph, std::span(s.pixels).subspan(image * bytes, bytes));
    const std::size_t count = only_first_row(s, name) ? value.shape[1] : per_image;
    for (std::size_t i = 0; i < count; ++i) {
      const int exponent =
          value.grid.exponents.empty() ? 0 : value.grid.exponents[i % value.shape[1]];
      const double real = std::ldexp(value.grid.scale, exponent) *
                          (code_at(value, codes[id], i) - value.grid.zero_point);
      const double wanted = double{reals[image * per_image + i]};
      signal += wanted * wanted;
      error += (real - wanted) * (real - wanted);
    }
  }
  return 10 * (std::log10(signal) - std::log10(error));
}

const TensorAccuracy& tensor(const Accuracy& accuracy, const std::string& name) {
  for (const TensorAccuracy& t : accuracy.tensors) {
    if (t.name == name) return t;
  }
  FAIL("no tensor " << name);
  return accuracy.tensors[0];
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
  return count;
}

/// Without the quantizers before additions, the sums are made directly.
void sum_directly(Subject& s) {
  for (const Layer& layer : s.network.layers) {
    if (!std::holds_alternative<AddLayer>(layer.op)) continue;
    s.calibration.grids.erase(s.network.layers[layer.src].result);
  }
  s.lower_again();
}

}  // namespace

TEST_CASE("signal to error ratios are those of their definition") {
  Subject s = subject(shape());
  if (GENERATE(false, true)) sum_directly(s);
  set_features(s, GENERATE(false, true));
  const Record record(s);
  const Accuracy accuracy = s.measure();
  REQUIRE(accuracy.tensors.size() >= 20);
  for (const TensorAccuracy& t : accuracy.tensors) {
    INFO(t.name);
    CHECK(t.fit.snr_db == Approx(expected_snr(s, record, t.name)).epsilon(1e-9));
    CHECK(t.fit.codes_used <= t.fit.codes_all);
  }
}

TEST_CASE("a direct sum stands for its addends") {
  Subject s = subject(shape());
  sum_directly(s);
  const Accuracy accuracy = s.measure();
  const TensorAccuracy& sum = tensor(accuracy, "blocks.0.qact2");
  CHECK(sum.kind == "linear");
  CHECK(sum.layer == "blocks.0.attn.proj");
  CHECK(sum.stream);
  CHECK(sum.weight_snr_db);
  for (const TensorAccuracy& t : accuracy.tensors) CHECK(t.name != "blocks.0.attn.qact3");
}

TEST_CASE("clipping by a grid that is too small is found") {
  Subject s = subject(shape());
  const std::string name = "blocks.1.attn.qact1";
  const Record record(s);
  const std::vector<float>& reals = record.tensors.at(name);
  const auto [low, high] = std::minmax_element(reals.begin(), reals.end());
  s.calibration.grids[name] = range_grid(*low, *high);
  s.lower_again();
  const GridFit roomy = tensor(s.measure(), name).fit;
  CHECK(roomy.clipped_low == 0);
  CHECK(roomy.clipped_high == 0);
  CHECK(roomy.local_snr_db > 38);  // 8 bits over the whole range
  CHECK(roomy.float_low == double{*low});
  CHECK(roomy.float_high == double{*high});

  const Grid narrow = range_grid(*low / 4, *high / 8);
  s.calibration.grids[name] = narrow;
  s.lower_again();
  const GridFit tight = tensor(s.measure(), name).fit;
  const double lowest = narrow.scale * (-0.5 - narrow.zero_point);
  const double highest = narrow.scale * (255.5 - narrow.zero_point);
  double below = 0, above = 0;
  for (const float real : reals) below += double{real}<lowest, above += double{real}> highest;
  CHECK(below > 0);
  CHECK(tight.clipped_low == Approx(below / double(reals.size())));
  CHECK(tight.clipped_high == Approx(above / double(reals.size())));
  CHECK(tight.local_snr_db < 10);
  CHECK(tight.snr_db < roomy.snr_db);
  CHECK(tight.grid_high == Approx(narrow.scale * (255 - narrow.zero_point)));
}

TEST_CASE("raw pixels are exact, words nearly so") {
  TinyShape plain = shape();
  plain.input_quantizer = false;
  const Accuracy accuracy = subject(plain).measure();
  CHECK(accuracy.tensors[0].kind == "patches");
  CHECK(accuracy.tensors[0].fit.snr_db > 100);
  const TensorAccuracy& fc1 = tensor(accuracy, "blocks.0.mlp.fc1");
  CHECK(fc1.codes == "I16");
  CHECK(fc1.fit.local_snr_db > 60);
  CHECK(fc1.fit.codes_all == 65536);
}

TEST_CASE("softmax codes are counted in both forms") {
  Subject s = subject(shape());
  const bool relative = GENERATE(false, true);
  s.calibration.softmax = relative ? SoftmaxForm::kRowRelative : SoftmaxForm::kLogInt;
  s.calibration.zero_code = relative ? 15 : 16;
  s.lower_again();
  const bool features = GENERATE(false, true);
  set_features(s, features);
  const Accuracy accuracy = s.measure();
  const Record record(s);
  std::size_t attentions = 0;
  for (const TensorAccuracy& t : accuracy.tensors) {
    if (!t.attention) continue;
    ++attentions;
    const AttentionFit& a = *t.attention;
    REQUIRE(a.code_shares.size() == 17);
    double sum = 0, weights = 0;
    for (std::size_t c = 0; c < 17; ++c) {
      CHECK(a.code_shares[c] >= 0);
      sum += a.code_shares[c];
      if (int(c) < a.zero_code) weights += std::ldexp(a.code_shares[c], -int(c));
    }
    CHECK(sum == Approx(1));
    const double tokens = double(kTokens);
    const bool last = t.layer == "blocks.1.attn" && !features;
    CHECK(t.rows == (last ? 1 : kTokens));
    if (relative) {
      CHECK(a.code_shares[0] >= 1 / tokens);  // the largest of each row
    } else {
      CHECK(weights * tokens > 0.6);  // a row's weights sum to about 1
      CHECK(weights * tokens < 1.5);
    }
    CHECK(a.zero_code == s.calibration.zero_code);
    if (!last) {
      const std::vector<float>& scores = record.all_scores.at(t.layer + ".qact_attn1");
      CHECK(a.scores.float_high == double{*std::max_element(scores.begin(), scores.end())});
    }
    CHECK(a.scores.snr_db > 10);
    CHECK(a.scores.local_snr_db >= a.scores.snr_db);
  }
  CHECK(attentions == 2);
}

TEST_CASE("weights are compared as the codes meet them") {
  Subject s = subject(shape());
  const std::string fc2 = "blocks.0.mlp.fc2";
  std::vector<std::uint8_t>& exponents = s.calibration.grids["blocks.0.mlp.qact1"].exponents;
  for (std::size_t c = 0; c < 32; ++c) exponents.push_back(static_cast<std::uint8_t>(c % 4));
  for (const Layer& layer : s.network.layers) {
    if (layer.name != fc2) continue;
    const auto& linear = std::get<LinearLayer>(layer.op);
    s.calibration.weights[fc2].scale = weight_scales(folded_weight(linear, exponents), linear.n);
  }
  s.lower_again();
  const Accuracy accuracy = s.measure();
  const TensorAccuracy& folded = tensor(accuracy, "blocks.0.mlp.qact2");
  REQUIRE(folded.weight_snr_db);
  CHECK(*folded.weight_snr_db > 38);
  CHECK(tensor(accuracy, "blocks.0.mlp.qact1").exponent_counts ==
        std::vector<std::size_t>{8, 8, 8, 8});
  for (float& scale : s.calibration.weights[fc2].scale) scale *= 16;
  s.lower_again();
  CHECK(*tensor(s.measure(), "blocks.0.mlp.qact2").weight_snr_db < *folded.weight_snr_db - 20);
}

TEST_CASE("the summary counts classes and errors of logits") {
  const Subject s = subject(shape());
  const Record record(s);
  const Model model = Model::parse(serialize_model(s.graph), "tiny");
  Session session(model);
  const std::size_t classes = 7;
  const int side = int(model.width());
  std::vector<std::size_t> labels(kImages, 3);
  double squares = 0, largest = 0;
  std::size_t agreeing = 0, right = 0;
  for (std::size_t i = 0; i < kImages; ++i) {
    const auto found = session.run(ImageView{s.pixels.data() + i * s.pixels.size() / kImages, side,
                                             side, 3 * std::size_t(side)});
    const auto reals = std::span(record.logits).subspan(i * classes, classes);
    for (std::size_t c = 0; c < classes; ++c) {
      const double error = s.graph.values[s.graph.output].grid.scale * found[c] - double{reals[c]};
      squares += error * error;
      largest = std::max(largest, std::abs(error));
    }
    const auto best = std::max_element(found.begin(), found.end()) - found.begin();
    agreeing += best == std::max_element(reals.begin(), reals.end()) - reals.begin();
    if (i % 2 == 0) labels[i] = std::size_t(best);
    right += std::size_t(best) == labels[i];
  }
  const auto summary =
      compare(s.network, s.calibration, s.graph, s.pixels, kImages, labels, 1).summary;
  CHECK(summary.images == kImages);
  CHECK(summary.labelled == kImages);
  CHECK(summary.integer_right == right);
  CHECK(summary.agreeing == agreeing);
  CHECK(summary.logit_rmse == Approx(std::sqrt(squares / double(kImages * classes))));
  CHECK(summary.logit_max_error == Approx(largest));
  CHECK(summary.float_bytes > summary.integer_bytes);
}

TEST_CASE("the report does not depend on threads") {
  const Subject s = subject(shape());
  const std::string one = json_report({"tiny", "random", s.measure(1)});
  CHECK(one == json_report({"tiny", "random", s.measure(3)}));
}

TEST_CASE("images that do not fit are refused") {
  Subject s = subject(shape());
  s.pixels.pop_back();
  check_error([&] { s.measure(); }, ErrorCode::kInvalidArgument, "5 images of 192 bytes");
  s = subject(shape());
  const std::vector<std::size_t> labels = {1, 2};
  check_error([&] { compare(s.network, s.calibration, s.graph, s.pixels, kImages, labels); },
              ErrorCode::kInvalidArgument, "found 2");
}

TEST_CASE("the report holds every tensor and refers to nothing") {
  const Subject s = subject(shape());
  const AccuracyReport report{"tiny", "random", s.measure()};
  const std::string html = html_report(report);
  const auto json = nlohmann::json::parse(json_report(report));
  std::set<std::string> found;
  for (const auto& t : json.at("tensors")) found.insert(t.at("name"));
  for (const Layer& layer : s.network.layers) {
    INFO(layer.result);
    CHECK(found.contains(layer.result));
    CHECK(html.find("<span class=\"name\">" + layer.result + "</span>") != html.npos);
  }
  CHECK(json.at("summary").at("float_top1").is_null());
  CHECK(json.at("tensors")[0].at("snr_db").is_number());
  for (const char* reference : {"http", "src=", "@import", "url(", "href"}) {
    INFO(reference);
    CHECK(html.find(reference) == html.npos);
  }
  for (const char* tag : {"section", "table", "svg", "div", "tr", "td", "small", "dl"}) {
    INFO(tag);
    const std::string name = tag;
    CHECK(count_of(html, "<" + name + ">") + count_of(html, "<" + name + " ") ==
          count_of(html, "</" + name + ">"));
  }
}

TEST_CASE("hostile names are escaped") {
  const std::string hostile = "</title><script>alert(\"x\")</script>&'\xff\x1b[2J";
  AccuracyReport report{hostile, hostile, subject(shape()).measure()};
  for (TensorAccuracy& t : report.accuracy.tensors) {
    t.name = t.layer = t.kind = t.codes = hostile;
    t.fit.snr_db = std::numeric_limits<double>::infinity();
    t.fit.float_high = std::numeric_limits<double>::quiet_NaN();
  }
  const std::string html = html_report(report);
  CHECK(count_of(html, "<script") == 1);
  CHECK(count_of(html, "</title>") ==
        2 + report.accuracy.tensors.size() + 17 * 2);  // page, chart, dots, histogram bars
  CHECK(html.find("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#39;\uFFFD [2J") !=
        html.npos);
  CHECK(html.find('\xff') == html.npos);
  CHECK(html.find('\x1b') == html.npos);
  const auto json = nlohmann::json::parse(json_report(report));
  CHECK(json.at("tensors")[1].at("snr_db").is_null());
  CHECK(json.at("model").get<std::string>().starts_with("</title>"));

  // Nothing measured at all is a report, too.
  CHECK(html_report({"", "", {}}).ends_with("</html>\n"));
  CHECK(nlohmann::json::parse(json_report({"", "", {}})).at("tensors").empty());
}

}  // namespace intaglio::test
