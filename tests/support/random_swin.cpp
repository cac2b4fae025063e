#include "tests/support/random_swin.h"

#include <cmath>
#include <random>

namespace intaglio::test {
namespace {

class Maker {
 public:
  explicit Maker(unsigned seed) : random_(seed) {}

  std::vector<float> reals(std::size_t count, float low, float high) {
    std::vector<float> values(count);
    for (float& v : values) v = low + (high - low) * static_cast<float>(random_()) / 4294967296.0F;
    return values;
  }
  FloatLinear linear(std::size_t n, std::size_t k, bool bias = true) {
    const float reach = 2 / std::sqrt(static_cast<float>(k));
    FloatLinear layer{n, k, reals(n * k, -reach, reach), {}};
    if (bias) layer.bias = reals(n, -0.5F, 0.5F);
    return layer;
  }
  FloatNorm norm(std::size_t dim) {
    return {reals(dim, -0.2F, 1.5F), reals(dim, -0.5F, 0.5F), 1e-5F};
  }
  SwinStage stage(const SwinShape& shape, std::size_t index) {
    const std::size_t dim = shape.dim << index;
    SwinStage stage;
    stage.heads = std::size_t{1} << index;
    stage.window = shape.window;
    const std::size_t side = 2 * stage.window - 1;
    for (std::size_t i = 0; i < shape.depths[index]; ++i) {
      SwinBlock b;
      b.norm1 = norm(dim), b.norm2 = norm(dim);
      b.qkv = linear(3 * dim, dim), b.proj = linear(dim, dim);
      b.fc1 = linear(shape.hidden * dim, dim), b.fc2 = linear(dim, shape.hidden * dim);
      b.bias = reals(stage.heads * side * side, -1, 1);
      stage.blocks.push_back(std::move(b));
    }
    if (index + 1 < shape.depths.size()) {
      stage.merge = SwinMerge{norm(4 * dim), linear(2 * dim, 4 * dim, false)};
    }
    return stage;
  }

 private:
  std::mt19937 random_;
};

}  // namespace

Swin random_swin(const SwinShape& shape) {
  Maker maker(shape.seed);
  Swin swin;
  swin.image_height = shape.height, swin.image_width = shape.width;
  swin.patch = shape.patch, swin.dim = shape.dim, swin.classes = shape.classes;
  swin.patch_embed = maker.linear(shape.dim, 3 * shape.patch * shape.patch);
  if (shape.patch_norm) swin.patch_norm = maker.norm(shape.dim);
  for (std::size_t i = 0; i < shape.depths.size(); ++i) {
    swin.stages.push_back(maker.stage(shape, i));
  }
  const std::size_t last = shape.dim << (shape.depths.size() - 1);
  swin.norm = maker.norm(last);
  swin.head = maker.linear(shape.classes, last);
  Preprocessing& p = swin.preprocessing;
  p.height = static_cast<int>(shape.height), p.width = static_cast<int>(shape.width);
  p.resize = std::min(p.height, p.width);
  p.mean = {0.485, 0.456, 0.406}, p.std = {0.229, 0.224, 0.225};
  return swin;
}

}  // namespace intaglio::test
