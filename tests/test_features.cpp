// Features by name, images of any size, and plans that sessions share.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>
#include <random>
#include <thread>
#include <utility>

#include "bench/own_form.h"
#include "converters/fqvit_import.h"
#include "converters/lower_network.h"
#include "engine/intaglio.h"
#include "engine/thread_pool.h"
#include "graph/model_file.h"
#include "graph/resize.h"
#include "tests/support/counting_resource.h"
#include "tests/support/expect_error.h"
#include "tests/support/models.h"
#include "tests/support/swin_micro.h"

namespace intaglio::test {
namespace {

/// The embedded model, whose features end with the stream's row that the last norm reads.
Graph vit(bool own) {
  CalibratedNetwork imported =
      import_fqvit(Safetensors::open(INTAGLIO_GLYPHS "/glyphs.safetensors"));
  if (own) imported = own_form(std::move(imported));
  Graph graph = lower(imported.network, imported.calibration, {});
  REQUIRE(graph.features.size() == 2);
  for (ValueId id = 0; id < graph.values.size(); ++id) {
    if (graph.values[id].name == "class_token") graph.features.push_back({"selected", id});
  }
  return graph;
}

Model load(const Graph& graph, std::optional<Isa> isa = {}) {
  LoadOptions options;
  options.isa = isa;
  return Model::parse(serialize_model(graph), "swin_micro", options);
}

Image noise(int height, int width) {
  Image image(width, height);
  std::mt19937 rng(static_cast<unsigned>(height * 10007 + width));
  std::generate(image.pixels.begin(), image.pixels.end(),
                [&] { return static_cast<std::uint8_t>(rng()); });
  return image;
}

std::vector<std::int32_t> logits_of(Session& session, const Image& image) {
  const auto logits = session.run(image);
  return {logits.begin(), logits.end()};
}

struct FeatureCopy {
  std::string name;
  std::vector<std::byte> codes;
  std::vector<std::size_t> shape;
  bool operator==(const FeatureCopy&) const = default;
};

/// What the last layer of a graph makes of codes.
std::vector<std::int32_t> classified(const Graph& graph, std::span<const std::byte> codes) {
  const auto& head = std::get<LinearOp>(graph.ops.back().params);
  const auto weight = head.weight.view();
  const std::size_t classes = head.multiplier.size();
  std::vector<std::int32_t> logits;
  for (std::size_t j = 0; j < classes; ++j) {
    std::int64_t sum = 0;
    for (std::size_t c = 0; c < codes.size(); ++c) {
      sum += std::int64_t{weight[j * codes.size() + c]} * std::to_integer<int>(codes[c]);
    }
    const std::int64_t scaled = sum * head.multiplier[j] + head.bias[j];
    logits.push_back(static_cast<std::int32_t>(scaled >> head.shift));
  }
  return logits;
}

std::vector<FeatureCopy> copy(std::span<const FeatureMap> features) {
  std::vector<FeatureCopy> copies;
  for (const FeatureMap& f : features) {
    const std::size_t count = f.height * f.width * f.channels;
    const bool words = f.codes_s16 != nullptr;
    const void* codes = words ? static_cast<const void*>(f.codes_s16) : f.codes_u8;
    FeatureCopy c = {f.name, std::vector<std::byte>(words ? 2 * count : count), {}};
    std::memcpy(c.codes.data(), codes, c.codes.size());
    c.shape = {f.height, f.width, f.channels};
    copies.push_back(std::move(c));
  }
  return copies;
}

constexpr std::pair<int, int> kSizes[] = {{56, 56}, {57, 30}, {1, 1}, {64, 112}, {100, 152}};

TEST_CASE("features and logits of any size are the same on every instruction set and thread") {
  for (const bool own : {false, true}) {
    const Graph graph = swin_micro(own);
    Session scalar(load(graph, Isa::kScalar));
    ThreadPool pool(3);
    for (const auto& [height, width] : kSizes) {
      const Image image = noise(height, width);
      const auto logits = logits_of(scalar, image);
      const auto features = copy(scalar.features(image));
      REQUIRE(features.size() == 2);
      const auto part = [](int n, int of) { return std::size_t((n + of - 1) / of); };
      CHECK(features[0].shape == std::vector{part(height, 4), part(width, 4), std::size_t{32}});
      CHECK(features[1].shape == std::vector{part(height, 8), part(width, 8), std::size_t{64}});
      CHECK(features[0].codes.size() ==
            features[0].shape[0] * features[0].shape[1] * 32 * (own ? 2 : 1));
      for (const Isa isa : kernels::kAllIsas) {
        if (!kernels::cpu_supports(isa) || isa == Isa::kScalar) continue;
        INFO(isa_name(isa) << " " << height << " x " << width << (own ? " own" : ""));
        const Model model = load(graph, isa);
        Session alone(model);
        Session shared(model, &pool);
        CHECK(logits_of(alone, image) == logits);
        CHECK(logits_of(shared, image) == logits);
        CHECK(copy(alone.features(image)) == features);
        CHECK(copy(shared.features(image)) == features);
      }
    }
  }
}

TEST_CASE("features of a ViT are what the head reads, and the last stream") {
  for (const bool own : {false, true}) {
    const Graph graph = vit(own);
    Session scalar(load(graph, Isa::kScalar));
    ThreadPool pool(3);
    const std::vector<std::string> names = {"class_token", "selected", "tokens"};
    const auto logits = logits_of(scalar, noise(32, 32));
    const auto features = copy(scalar.features(noise(32, 32), names));
    CHECK(features[0].shape == std::vector<std::size_t>{1, 1, 128});
    CHECK(features[2].shape == std::vector<std::size_t>{1, 65, 128});
    CHECK(classified(graph, features[0].codes) == logits);
    const std::vector<std::byte>& all = features[2].codes;
    const std::vector<std::byte>& first = features[1].codes;
    REQUIRE(first.size() == std::size_t{own ? 256U : 128U});
    CHECK(std::equal(first.begin(), first.end(), all.begin()));
    for (const Isa isa : kernels::kAllIsas) {
      if (!kernels::cpu_supports(isa)) continue;
      INFO(isa_name(isa) << (own ? " own" : ""));
      const Model model = load(graph, isa);
      CHECK_FALSE(model.takes_any_size());
      Session alone(model);
      Session shared(model, &pool);
      CHECK(copy(alone.features(noise(32, 32), names)) == features);
      CHECK(copy(shared.features(noise(32, 32), names)) == features);
      CHECK(logits_of(alone, noise(32, 32)) == logits);
      for (std::size_t i = 0; i < names.size(); ++i) {  // rows that the others need are not made
        CHECK(copy(alone.features(noise(32, 32), std::span(names).subspan(i, 1))) ==
              std::vector{features[i]});
      }
    }
  }
}

TEST_CASE("an image of another size gives what a model made for that size gives") {
  const Graph graph = swin_micro(true);
  Session any(load(graph));
  for (const auto& [height, width] : kSizes) {
    const Image image = noise(height, width);
    Session fixed(
        load(resized(graph, static_cast<std::size_t>(height), static_cast<std::size_t>(width))));
    CHECK(logits_of(any, image) == logits_of(fixed, image));
    CHECK(logits_of(any, image) == logits_of(fixed, image));  // the plan is there now
  }
}

TEST_CASE("features are the ones asked for, and leave logits as they were") {
  const Model model = load(swin_micro(false));
  CHECK(model.takes_any_size());
  CHECK(model.features() == std::vector<std::string>{"stage1", "stage2"});
  Session session(model);
  const Image image = noise(56, 56);
  const auto logits = logits_of(session, image);
  const auto all = copy(session.features(image));
  const std::vector<std::string> second = {"stage2"};
  const std::vector<std::string> backwards = {"stage2", "stage1"};
  CHECK(copy(session.features(image, second)) == std::vector{all[1]});
  CHECK(copy(session.features(image, backwards)) == all);
  CHECK(session.steps().size() < model.steps().size());
  CHECK(logits_of(session, image) == logits);
  CHECK(session.steps().size() == model.steps().size());
  const std::vector<std::string> unknown = {"stage3"};
  check_error([&] { session.features(image, unknown); }, ErrorCode::kInvalidArgument,
              "the model has no feature 'stage3'");
  check_error([&] { session.features({}); }, ErrorCode::kInvalidArgument, "needs pixels");
  check_error([&] { session.run(noise(4097, 1)); }, ErrorCode::kLimit, "1 to 4096 pixels");
  const Image other = noise(56, 60);
  const std::vector<ImageView> mixed = {image, other};
  std::vector<std::int32_t> both(2 * model.classes());
  check_error([&] { session.run(mixed, both); }, ErrorCode::kInvalidArgument, "one size");
}

TEST_CASE("floats of a feature are its codes times their scales, in both layouts") {
  for (const bool own : {false, true}) {
    Session session(load(swin_micro(own)));
    const Image image = noise(40, 56);
    for (const FeatureMap& f : session.features(image)) {
      const std::size_t rows = f.height * f.width;
      std::vector<float> nhwc(rows * f.channels);
      std::vector<float> nchw(nhwc.size());
      to_float(f, FeatureLayout::kNhwc, nhwc);
      to_float(f, FeatureLayout::kNchw, nchw);
      CHECK(f.exponents.empty() == own);
      for (std::size_t i = 0; i < nhwc.size(); ++i) {
        const std::size_t c = i % f.channels;
        const int code = own ? f.codes_s16[i] : f.codes_u8[i];
        const double scale = f.scale * (own ? 1 : 1 << f.exponents[c]);
        REQUIRE(nhwc[i] == static_cast<float>(scale * (code - f.zero_point)));
        REQUIRE(nchw[c * rows + i / f.channels] == nhwc[i]);
      }
      check_error(
          [&] {
            to_float(f, FeatureLayout::kNhwc, {nhwc.data(), 1});
          },
          ErrorCode::kInvalidArgument, "the buffer 1");
    }
  }
}

TEST_CASE("normalized tensors become the pixels they were made of") {
  Preprocessing p;
  std::vector<std::uint8_t> codes(3 * 256), found(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i / 3);
  for (const auto& [mean, std] :
       {std::pair{std::array{0.485, 0.456, 0.406}, std::array{0.229, 0.224, 0.225}},
        {std::array{0.5, 0.5, 0.5}, std::array{0.5, 0.5, 0.5}},
        {std::array{0.0, 0.0, 0.0}, std::array{1.0, 1.0, 1.0}}}) {
    p.mean = mean;
    p.std = std;
    std::vector<float> nhwc(codes.size()), nchw(codes.size());
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const float unit = static_cast<float>(codes[i]) / 255.0F;  // as torchvision computes
      nhwc[i] = (unit - static_cast<float>(mean[i % 3])) / static_cast<float>(std[i % 3]);
      nchw[i % 3 * 256 + i / 3] = nhwc[i];
    }
    pixels_of(nhwc, FeatureLayout::kNhwc, p, found);
    CHECK(found == codes);
    pixels_of(nchw, FeatureLayout::kNchw, p, found);
    CHECK(found == codes);
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float edges[] = {-1.0F,      2.0F,          std::nanf(""),   -kInfinity, kInfinity,
                         0.5F / 255, 0.4999F / 255, 254.5001F / 255, 3e38F};
  found.resize(std::size(edges));
  pixels_of(edges, FeatureLayout::kNhwc, p, found);
  CHECK(found == std::vector<std::uint8_t>{0, 255, 0, 0, 255, 1, 0, 255, 255});
  check_error(
      [&] {
        pixels_of({edges, 6}, FeatureLayout::kNhwc, p, found);
      },
      ErrorCode::kInvalidArgument, "6 elements has no room as RGB in 9 bytes");
  check_error(
      [&] {
        pixels_of({edges, 4}, FeatureLayout::kNhwc, p, {found.data(), 4});
      },
      ErrorCode::kInvalidArgument, "4 elements");
}

TEST_CASE("a session whose memory is refused goes on when there is some") {
  const Model model = load(swin_micro(true));
  const Image small = noise(56, 56);
  const Image large = noise(160, 160);
  Session plain(model);
  const auto of_small = logits_of(plain, small);
  const auto of_large = logits_of(plain, large);
  const auto features = copy(plain.features(large));
  CountingResource memory;
  {
    Session session(model, nullptr, &memory);
    CHECK(logits_of(session, small) == of_small);
    memory.refuses = true;
    CHECK_THROWS_AS(session.run(large), std::bad_alloc);
    CHECK(logits_of(session, small) == of_small);  // of the size before
    memory.refuses = true;
    CHECK_THROWS_AS(session.features(large), std::bad_alloc);
    memory.refuses = true;
    CHECK_THROWS_AS(session.features(large), std::bad_alloc);
    CHECK(copy(session.features(large)) == features);  // of the same size
    CHECK(logits_of(session, large) == of_large);
    CHECK(logits_of(session, small) == of_small);
  }
  CHECK(memory.held == 0);
  CHECK(memory.aligned);
}

TEST_CASE("sessions of one model plan new sizes at the same time") {
  const Model model = load(swin_micro(true));
  std::vector<std::vector<std::int32_t>> expected;
  for (int i = 0; i < 24; ++i) {
    Session session(model);
    expected.push_back(logits_of(session, noise(40 + i, 56)));
  }
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      Session session(model);
      for (int i = 0; i < 48; ++i) {  // more sizes than are kept
        const int size = (i * 7 + static_cast<int>(t) * 5) % 24;
        wrong[t] += logits_of(session, noise(40 + size, 56)) != expected[std::size_t(size)];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(std::accumulate(wrong.begin(), wrong.end(), 0) == 0);
}

}  // namespace
}  // namespace intaglio::test
