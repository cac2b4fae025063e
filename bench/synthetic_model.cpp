#include "bench/synthetic_model.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "converters/fqvit_import.h"
#include "converters/lower_network.h"
#include "converters/vit.h"
#include "graph/error.h"

namespace intaglio {
namespace {

constexpr Architecture kArchitectures[] = {
    {"deit_tiny", 224, 16, 192, 3, 12, 1000, true},
    {"deit_small", 224, 16, 384, 6, 12, 1000, true},
    {"deit_base", 224, 16, 768, 12, 12, 1000, true},
    {"vit_base", 224, 16, 768, 12, 12, 1000, false},
    {"vit_large", 224, 16, 1024, 16, 24, 1000, false},
    {"vit_micro", 32, 8, 64, 2, 2, 10, false},
};

constexpr std::uint64_t kSeed = 0x9e3779b97f4a7c15;

// As large as in DeiT-Tiny. They decide how large the factors of rescaling are, and with that
// which form of it a kernel takes.
constexpr float kNorm = 1.06F;      ///< rms of LayerNorm's results: gamma in 0.5..1.5, and beta
constexpr float kOutlier = 8;       ///< of a row of weights, in standard deviations, about
constexpr float kNormReach = 2.5F;  ///< grids of LayerNorm's results are wider for outliers' sake

/// Makes layers and the grids of their results. `rms` is the root mean square of a tensor's reals:
/// known from the layer's input, because weights are independent with variance 1 / k.
class Maker {
 public:
  explicit Maker(std::size_t dim) : dim_(dim) {
    // Most channels of a residual stream are alike, a few are up to 8 times larger.
    for (std::size_t c = 0; c < dim; ++c) {
      const float draw = real(0, 1);
      exponents_.push_back(
          static_cast<std::uint8_t>((draw > 0.6F) + (draw > 0.8F) + (draw > 0.92F)));
    }
    exponents_[0] = 0;  // the finest channel has exponent 0
    double sum = 0;
    for (const std::uint8_t e : exponents_) sum += std::ldexp(1.0, 2 * e);
    stream_rms_ = static_cast<float>(std::sqrt(sum / static_cast<double>(dim)));
  }

  float real(float low, float high) {
    return low + (high - low) * static_cast<float>(next() >> 40) * 0x1p-24F;
  }

  /// Bell-shaped: the sum of four bytes, to +-3.45 standard deviations; 300 million of them should
  /// not take long.
  void fill(std::span<float> values, float deviation) {
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

  /// The result has about the rms of the input; onto the stream, channels are 2^exponent larger.
  /// Each row has an outlier, as trained ones do: it makes the row's scale.
  FloatLinear linear(const std::string& name, std::size_t n, std::size_t k,
                     bool onto_stream = false) {
    FloatLinear layer{n, k, std::vector<float>(n * k), std::vector<float>(n)};
    std::vector<float>& scale = calibration.weights[name].scale;
    const float deviation = 1 / std::sqrt(static_cast<float>(k) + kOutlier * kOutlier);
    for (std::size_t j = 0; j < n; ++j) {
      const std::span<float> row(layer.weight.data() + j * k, k);
      const float size = onto_stream ? std::ldexp(1.0F, exponents_[j]) : 1.0F;
      fill(row, size * deviation);
      const float largest = kOutlier * real(0.75F, 1.25F) * size * deviation;
      row[next() % k] = largest;
      layer.bias[j] = size * real(-0.2F, 0.2F);
      scale.push_back(largest / 127.5F);
    }
    return layer;
  }

  /// Of a stream: gamma evens out what the exponents make of its channels.
  FloatNorm norm() {
    FloatNorm norm;
    for (std::size_t c = 0; c < dim_; ++c) {
      norm.gamma.push_back(std::ldexp(real(0.5F, 1.5F) * stream_rms_, -exponents_[c]));
      norm.beta.push_back(real(-0.2F, 0.2F));
    }
    return norm;
  }

  /// Three standard deviations to both sides of a zero point near the middle.
  Grid grid(float rms) { return {6 * rms / 255, 120 + static_cast<std::int32_t>(next() % 16), {}}; }
  Grid stream(float rms) {
    Grid grid = this->grid(rms);
    grid.exponents = exponents_;
    return grid;
  }
  float stream_rms() const { return stream_rms_; }

  /// Returns the rms of the finest channels of its result.
  float block(const std::string& name, std::size_t index, std::size_t tokens, float stream_in) {
    // Of standard-normal scores the softmax averages about tokens / e of the values. What the
    // tokens have in common remains, and attention makes it more from block to block.
    const float common = std::min(0.7F, 0.25F + 0.12F * static_cast<float>(index));
    const float attended = std::hypot(std::sqrt(2.72F / static_cast<float>(tokens)), common);
    constexpr float kGelu = 0.65F;  // of a standard-normal input
    const float stream_out = std::hypot(stream_in, attended, kGelu);
    VitBlock b;
    b.norm1 = norm(), b.norm2 = norm();
    b.qkv = linear(name + "attn.qkv", 3 * dim_, dim_);
    b.proj = linear(name + "attn.proj", dim_, dim_, true);
    b.fc1 = linear(name + "mlp.fc1", 4 * dim_, dim_);
    b.fc2 = linear(name + "mlp.fc2", dim_, 4 * dim_, true);
    auto& grids = calibration.grids;
    grids[name + "qact1"] = grid(kNormReach * kNorm);
    grids[name + "attn.qact1"] = grid(kNorm);
    grids[name + "attn.qact_attn1"] = grid(kNorm);
    grids[name + "attn.qact2"] = grid(attended);
    grids[name + "attn.qact3"] = grid(stream_rms_ * attended);
    grids[name + "qact2"] = stream(std::hypot(stream_in, attended));
    grids[name + "qact3"] = grid(kNormReach * kNorm);
    grids[name + "mlp.qact1"] = {3.4F / 255, 13, {}};
    grids[name + "mlp.qact2"] = grid(stream_rms_ * kGelu);
    grids[name + "qact4"] = stream(stream_out);
    vit.blocks.push_back(std::move(b));
    return stream_out;
  }

  Vit vit;
  Calibration calibration;

 private:
  /// SplitMix64.
  std::uint64_t next() {
    std::uint64_t z = state_ += kSeed;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }

  std::size_t dim_;
  std::uint64_t state_ = 1;
  std::vector<std::uint8_t> exponents_;
  float stream_rms_ = 1;
};

CalibratedNetwork synthetic_vit(const Architecture& architecture, std::size_t image_size) {
  const std::size_t dim = architecture.dim;
  Maker maker(dim);
  Vit& vit = maker.vit;
  auto& grids = maker.calibration.grids;
  vit.image_size = image_size, vit.patch = architecture.patch, vit.dim = dim;
  vit.heads = architecture.heads, vit.classes = architecture.classes;
  const std::size_t tokens = 1 + vit.patches();
  // Normalized pixels of equally likely values: rms 1.26 with ImageNet's deviations, 0.58 with 0.5.
  const float pixels = architecture.input_quantizer ? 1.26F : 0.58F;
  if (architecture.input_quantizer) grids["qact_input"] = {4.76F / 255, 114, {}};
  vit.patch_embed =
      maker.linear("patch_embed.proj", dim, 3 * architecture.patch * architecture.patch, true);
  grids["patch_embed.qact"] = grids[kTokenGrid] = maker.grid(maker.stream_rms() * pixels);
  constexpr float kPosition = 0.5F;
  grids[kPositionGrid] = maker.grid(kPosition);
  vit.tokens.resize(dim), vit.position.resize(tokens * dim);
  maker.fill(vit.tokens, pixels);
  maker.fill(vit.position, kPosition);
  float stream = std::hypot(pixels, kPosition);
  grids["qact1"] = maker.stream(stream);
  for (std::size_t i = 0; i < architecture.depth; ++i) {
    stream = maker.block("blocks." + std::to_string(i) + ".", i, tokens, stream);
  }
  vit.norm = maker.norm();
  grids["qact2"] = maker.grid(kNormReach * kNorm);
  vit.head = maker.linear("head", architecture.classes, dim);

  Preprocessing& p = vit.preprocessing;
  p.height = p.width = static_cast<int>(image_size);
  p.resize = static_cast<int>(image_size * 8 / 7);
  p.mean = p.std = {0.5, 0.5, 0.5};
  if (architecture.input_quantizer) p.mean = {0.485, 0.456, 0.406}, p.std = {0.229, 0.224, 0.225};
  vit.provenance = {{"arch", architecture.name}, {"parameters", "pseudo-random"}};
  return {network_of(std::move(vit)), std::move(maker.calibration)};
}

}  // namespace

std::span<const Architecture> architectures() {
  return kArchitectures;
}

const Architecture& find_architecture(const std::string& name) {
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    if (name == architecture.name) return architecture;
    known += std::string(known.empty() ? "" : ", ") + architecture.name;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "unknown architecture '" + name + "'; known are " + known);
}

Graph synthetic_model(const Architecture& architecture, std::size_t image_size) {
  if (image_size == 0) image_size = architecture.image_size;
  if (image_size % architecture.patch != 0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        std::string(architecture.name) + ": the image size must be a multiple of the patch, " +
            std::to_string(architecture.patch) + " pixels, not " + std::to_string(image_size));
  }
  const CalibratedNetwork made = synthetic_vit(architecture, image_size);
  return lower(made.network, made.calibration, {});
}

}  // namespace intaglio
