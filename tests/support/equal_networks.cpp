#include "tests/support/equal_networks.h"

#include <catch2/catch.hpp>

namespace intaglio::test {
namespace {

void check_same(const PatchesLayer& a, const PatchesLayer& b) {
  CHECK(a.patch == b.patch);
}
void check_same(const EmbedLayer& a, const EmbedLayer& b) {
  CHECK(a.tokens == b.tokens);
  CHECK(a.position == b.position);
}
void check_same(const LinearLayer& a, const LinearLayer& b) {
  check_equal(a, b);
}
void check_same(const NormLayer& a, const NormLayer& b) {
  check_equal(a, b);
  CHECK(a.epsilon == b.epsilon);
}
void check_same(const AttentionLayer& a, const AttentionLayer& b) {
  CHECK(a.heads == b.heads);
  CHECK(a.window == b.window);
  CHECK(a.window_shift == b.window_shift);
  CHECK(a.bias == b.bias);
  CHECK(a.beyond == b.beyond);
}
void check_same(const GeluLayer&, const GeluLayer&) {}
void check_same(const AddLayer& a, const AddLayer& b) {
  CHECK(a.stream == b.stream);
}
void check_same(const SelectLayer& a, const SelectLayer& b) {
  CHECK(a.count == b.count);
  CHECK(a.joined == b.joined);
}
void check_same(const MergeLayer&, const MergeLayer&) {}
void check_same(const MeanLayer&, const MeanLayer&) {}

}  // namespace

void check_equal(const FloatLinear& a, const FloatLinear& b) {
  CHECK(a.n == b.n);
  CHECK(a.k == b.k);
  CHECK(a.weight == b.weight);
  CHECK(a.bias == b.bias);
}
void check_equal(const FloatNorm& a, const FloatNorm& b) {
  CHECK(a.gamma == b.gamma);
  CHECK(a.beta == b.beta);
}

void check_equal(const Network& a, const Network& b) {
  CHECK(a.image_height == b.image_height);
  CHECK(a.image_width == b.image_width);
  REQUIRE(a.layers.size() == b.layers.size());
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    const Layer& x = a.layers[i];
    const Layer& y = b.layers[i];
    INFO(x.name);
    CHECK(x.name == y.name);
    CHECK(x.src == y.src);
    CHECK(x.rows == y.rows);
    CHECK(x.width == y.width);
    CHECK(x.channels == y.channels);
    REQUIRE(x.op.index() == y.op.index());
    std::visit([&](const auto& op) { check_same(op, std::get<std::decay_t<decltype(op)>>(y.op)); },
               x.op);
  }
  REQUIRE(a.features.size() == b.features.size());
  for (std::size_t i = 0; i < a.features.size(); ++i) {
    CHECK(a.features[i].name == b.features[i].name);
    CHECK(a.features[i].layer == b.features[i].layer);
  }
}

}  // namespace intaglio::test
