// How far integer logits are from those of the float network, over many images.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace intaglio {

struct LogitFit {
  std::size_t images = 0, labelled = 0;
  std::size_t float_right = 0, integer_right = 0;  ///< best class, of the labelled
  std::size_t agreeing = 0;                        ///< images with the same best class
  double logit_rmse = 0, logit_max_error = 0;      ///< of real logits
};

/// Adds up one image after the other.
class LogitSums {
 public:
  /// Both [classes], the same for all images; real logit = scale * code.
  void add(std::span<const float> reals, std::span<const std::int32_t> codes, double scale,
           std::optional<std::size_t> label);
  LogitFit result() const;

 private:
  LogitFit fit_;
  std::size_t logits_ = 0;
  double squares_ = 0;
};

}  // namespace intaglio
