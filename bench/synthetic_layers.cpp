#include "bench/synthetic_layers.h"

#include <algorithm>
#include <cmath>

namespace intaglio {

/// SplitMix64.
std::uint64_t SyntheticLayers::next() {
  constexpr std::uint64_t kSeed = 0x9e3779b97f4a7c15;
  std::uint64_t z = state_ += kSeed;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

SyntheticStream SyntheticLayers::stream(std::size_t dim) {
  SyntheticStream stream;
  for (std::size_t c = 0; c < dim; ++c) {
    const float draw = real(0, 1);
    stream.exponents.push_back(
        static_cast<std::uint8_t>((draw > 0.6F) + (draw > 0.8F) + (draw > 0.92F)));
  }
  stream.exponents[0] = 0;  // the finest channel has exponent 0
  double sum = 0;
  for (const std::uint8_t e : stream.exponents) sum += std::ldexp(1.0, 2 * e);
  stream.rms = static_cast<float>(std::sqrt(sum / static_cast<double>(dim)));
  return stream;
}

float SyntheticLayers::real(float low, float high) {
  return low + (high - low) * static_cast<float>(next() >> 40) * 0x1p-24F;
}

void SyntheticLayers::fill(std::span<float> values, float deviation) {
  constexpr float kMean = 4 * 127.5F;
  const float scale = deviation / 147.8F;  // of four bytes: sqrt(4 * (256^2 - 1) / 12)
  for (std::size_t i = 0; i < values.size(); i += 2) {
    constexpr std::uint64_t kLowBytes = 0x00ff00ff00ff00ff;
    const std::uint64_t bits = next();
    std::uint64_t sums = (bits & kLowBytes) + (bits >> 8 & kLowBytes);
    sums += sums >> 16;
    values[i] = scale * (static_cast<float>(sums & 0xffff) - kMean);
    if (i + 1 < values.size()) {
      values[i + 1] = scale * (static_cast<float>(sums >> 32 & 0xffff) - kMean);
    }
  }
}

FloatLinear SyntheticLayers::linear(const std::string& name, std::size_t n, std::size_t k,
                                    const SyntheticStream* onto) {
  FloatLinear layer{n, k, std::vector<float>(n * k), std::vector<float>(n)};
  std::vector<float>& scale = calibration.weights[name].scale;
  const float deviation = 1 / std::sqrt(static_cast<float>(k) + kOutlier * kOutlier);
  for (std::size_t j = 0; j < n; ++j) {
    const std::span<float> row(layer.weight.data() + j * k, k);
    const float size = onto != nullptr ? std::ldexp(1.0F, onto->exponents[j]) : 1.0F;
    fill(row, size * deviation);
    const float largest = kOutlier * real(0.75F, 1.25F) * size * deviation;
    row[next() % k] = largest;
    layer.bias[j] = size * real(-0.2F, 0.2F);
    scale.push_back(largest / 127.5F);
  }
  return layer;
}

FloatNorm SyntheticLayers::norm(const SyntheticStream& stream, std::size_t times) {
  FloatNorm norm;
  for (std::size_t c = 0; c < times * stream.dim(); ++c) {
    const int exponent = stream.exponents[c % stream.dim()];
    norm.gamma.push_back(std::ldexp(real(0.5F, 1.5F) * stream.rms, -exponent));
    norm.beta.push_back(real(-0.2F, 0.2F));
  }
  return norm;
}

Grid SyntheticLayers::grid(float rms) {
  return {6 * rms / 255, 120 + static_cast<std::int32_t>(next() % 16), {}};
}

Grid SyntheticLayers::grid(float rms, const SyntheticStream& stream) {
  Grid grid = this->grid(rms);
  grid.exponents = stream.exponents;
  return grid;
}

float SyntheticLayers::block(const std::string& name, const SyntheticStream& stream,
                             std::size_t depth, std::size_t tokens, float rms,
                             const SyntheticBlock& block) {
  // Of standard-normal scores the softmax averages about tokens / e of the values. What the tokens
  // have in common remains, and attention makes it more from block to block.
  const float common = std::min(0.7F, 0.25F + 0.12F * static_cast<float>(depth));
  const float attended = std::hypot(std::sqrt(2.72F / static_cast<float>(tokens)), common);
  constexpr float kGelu = 0.65F;  // of a standard-normal input
  const float result = std::hypot(rms, attended, kGelu);
  const std::size_t dim = stream.dim();
  block.norm1 = norm(stream), block.norm2 = norm(stream);
  block.qkv = linear(name + "attn.qkv", 3 * dim, dim);
  block.proj = linear(name + "attn.proj", dim, dim, &stream);
  block.fc1 = linear(name + "mlp.fc1", 4 * dim, dim);
  block.fc2 = linear(name + "mlp.fc2", dim, 4 * dim, &stream);
  auto& grids = calibration.grids;
  grids[name + "qact1"] = norm_grid();
  grids[name + "attn.qact1"] = grid(kNorm);
  grids[name + "attn.qact_attn1"] = grid(kNorm);
  grids[name + block.attended] = grid(attended);
  grids[name + block.projected] = grid(stream.rms * attended);
  grids[name + "qact2"] = grid(std::hypot(rms, attended), stream);
  grids[name + "qact3"] = norm_grid();
  grids[name + "mlp.qact1"] = {3.4F / 255, 13, {}};
  grids[name + "mlp.qact2"] = grid(stream.rms * kGelu);
  grids[name + "qact4"] = grid(result, stream);
  return result;
}

}  // namespace intaglio
