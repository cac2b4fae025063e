// Pseudo-random layers and the grids of what they give, as a trained and calibrated model has them:
// every grid fits the distribution of its codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "converters/calibration.h"
#include "converters/network.h"

namespace intaglio {

/// Channels of a residual stream: most are alike, a few are up to 8 times larger.
struct SyntheticStream {
  std::vector<std::uint8_t> exponents;
  float rms = 1;  ///< of all channels, where that of the finest is 1

  std::size_t dim() const { return exponents.size(); }
};

/// Layers that a block of a ViT and of a Swin have, and what attention calls its grids.
struct SyntheticBlock {
  FloatNorm &norm1, &norm2;
  FloatLinear &qkv, &proj, &fc1, &fc2;
  const char *attended, *projected;
};

/// Makes layers and the grids of their results; the same calls give the same numbers. `rms` is the
/// root mean square of a tensor's reals: known from the layer's input, because weights are
/// independent with variance 1 / k.
class SyntheticLayers {
 public:
  // As large as in DeiT-Tiny. They decide how large the factors of rescaling are, and with that
  // which form of it a kernel takes.
  static constexpr float kNorm =
      1.06F;                            ///< rms of LayerNorm's results: gamma in 0.5..1.5, and beta
  static constexpr float kOutlier = 8;  ///< of a row of weights, in standard deviations, about
  static constexpr float kNormReach = 2.5F;  ///< their grids are wider for outliers' sake

  SyntheticStream stream(std::size_t dim);
  float real(float low, float high);
  /// Bell-shaped: the sum of four bytes, to +-3.45 standard deviations; 300 million of them should
  /// not take long.
  void fill(std::span<float> values, float deviation);
  /// The result has about the rms of the input; `onto` a stream, channels are 2^exponent larger.
  /// Each row has an outlier, as trained ones do: it makes the row's scale.
  FloatLinear linear(const std::string& name, std::size_t n, std::size_t k,
                     const SyntheticStream* onto = nullptr);
  /// Of a stream, `times` rows of it side by side: gamma evens out what the exponents make of its
  /// channels.
  FloatNorm norm(const SyntheticStream& stream, std::size_t times = 1);
  /// Three standard deviations to both sides of a zero point near the middle.
  Grid grid(float rms);
  /// `rms` of the finest channels.
  Grid grid(float rms, const SyntheticStream& stream);
  Grid norm_grid() { return grid(kNormReach * kNorm); }
  /// The block at `depth`, whose tokens attend to `tokens`. Returns the rms of the finest channels
  /// of its result; `rms` is that of its source.
  float block(const std::string& name, const SyntheticStream& stream, std::size_t depth,
              std::size_t tokens, float rms, const SyntheticBlock& block);

  Calibration calibration;

 private:
  std::uint64_t next();

  std::uint64_t state_ = 1;
};

}  // namespace intaglio
