// How far an integer graph is from the float network it was made of: tensor by tensor, and in what
// comes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "converters/calibration.h"
#include "converters/logit_sums.h"
#include "converters/network.h"
#include "graph/graph.h"

namespace intaglio {

/// How float values fare on the grid that stands for them. Ratios are signal power / error power in
/// dB; infinite where nothing is lost.
struct GridFit {
  double snr_db = 0;        ///< float against integer, both run end to end
  double local_snr_db = 0;  ///< what the grid alone costs: float values put on it
  double float_low = 0, float_high = 0;
  double grid_low = 0, grid_high = 0;         ///< of the widest channel
  double clipped_low = 0, clipped_high = 0;   ///< shares of float values over half a step outside
  std::size_t codes_used = 0, codes_all = 0;  ///< different codes; both 0 for s32
};

/// Inside of an attention.
struct AttentionFit {
  GridFit scores;
  SoftmaxForm form = SoftmaxForm::kLogInt;
  int zero_code = 16;               ///< first code of weight 0
  std::vector<double> code_shares;  ///< [17], of the integer softmax; none of a uniform one
};

/// A value of the graph. Results that no value stands for (sums made directly) are left out, and
/// rows that the logits do not depend on.
struct TensorAccuracy {
  std::string name;   ///< of the value
  std::string layer;  ///< of the operation that makes it
  std::string kind;   ///< of the operation: "linear", "attention", ...
  std::size_t rows = 0, channels = 0;
  std::string codes;    ///< their type: "U8", "I16", "I32"
  bool stream = false;  ///< part of the residual stream
  GridFit fit;
  std::vector<std::size_t> exponent_counts;  ///< channels with exponent 0, 1, ...; empty: no PTF
  std::optional<AttentionFit> attention;
  /// Weights of a linear layer against their codes, input exponents folded into both.
  std::optional<double> weight_snr_db;
};

struct AccuracySummary : LogitFit {
  std::size_t classes = 0;
  std::size_t float_bytes = 0, integer_bytes = 0;  ///< of parameters
};

struct Accuracy {
  AccuracySummary summary;
  std::vector<TensorAccuracy> tensors;  ///< in order of execution
};

/// Runs both on `count` images, pixels [count, size, size, 3]. `labels`: the class of each image,
/// or none. `graph` is lower()'s of `network` and `calibration`. The result does not depend on the
/// number of threads (0: one per CPU that this process may use). Throws Error(kInvalidArgument)
/// where these do not fit each other.
Accuracy compare(const Network& network, const Calibration& calibration, const Graph& graph,
                 std::span<const std::uint8_t> pixels, std::size_t count,
                 std::span<const std::size_t> labels = {}, std::size_t threads = 0,
                 const std::function<void(double share)>& progress = {});

}  // namespace intaglio
