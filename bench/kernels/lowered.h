// Constants of kernels as the converter makes them: which form of rescaling a kernel takes depends
// on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace intaglio::bench {

/// GELU onto 8 bits, as models have it.
struct Gelu {
  kernels::GeluParams params;  ///< its tables live as long as the program
  double src_scale;            ///< of the s16 codes
};
Gelu lowered_gelu();

/// The sum of a layer's codes and a residual stream with a scale per channel.
class Residual {
 public:
  explicit Residual(std::size_t dim);
  kernels::ResidualParams params() const;

 private:
  std::vector<std::uint8_t> exponents_;
  std::int32_t multiplier_a_, multiplier_b_;
  int shift_;
};

/// A softmax of scores with a scale of about 1/40: on normal scores it keeps some 70 of 197 tokens.
/// Uniform codes are steps of 1/510.
class Softmax {
 public:
  Softmax(kernels::SoftmaxForm form, std::size_t tokens);
  kernels::SoftmaxParams params() const;

 private:
  kernels::SoftmaxForm form_;
  std::vector<std::uint64_t> exponentials_;
  std::vector<std::uint8_t> codes_;
};

}  // namespace intaglio::bench
