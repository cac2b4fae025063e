#include "bench/own_form.h"

#include <algorithm>
#include <map>

#include "converters/lower.h"

namespace intaglio {

CalibratedNetwork own_form(CalibratedNetwork model) {
  const Network& network = model.network;
  Calibration& calibration = model.calibration;
  calibration.softmax = SoftmaxForm::kRowRelative;
  calibration.stream = DType::kS16;
  std::map<std::size_t, double> tops;  // of the streams of so many channels: those of a stage
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const Layer& layer = network.layers[i];
    if (!network.is_stream(i) || !calibration.grids.contains(layer.result)) continue;
    const Grid& codes = calibration.grids.at(layer.result);
    for (std::size_t c = 0; c < layer.channels; ++c) {
      double& top = tops[layer.channels];
      top = std::max(top, 255 * channel_scale(codes, c));
    }
  }
  for (std::size_t i = 0; i < network.layers.size(); ++i) {
    const Layer& layer = network.layers[i];
    if (std::holds_alternative<AttentionLayer>(layer.op)) {
      if (softmax_grid_of(layer) == score_grid_of(layer)) continue;
      calibration.grids.erase(score_grid_of(layer));
      calibration.grids.erase(bias_grid_of(layer));
    } else if (network.is_stream(i) && calibration.grids.contains(layer.result)) {
      calibration.grids.at(layer.result) = {tops[layer.channels] / 32767, 0, {}};
    } else if (std::holds_alternative<LinearLayer>(layer.op) && i + 1 < network.layers.size() &&
               (std::holds_alternative<AddLayer>(network.layers[i + 1].op) ||
                std::holds_alternative<EmbedLayer>(network.layers[i + 1].op))) {
      calibration.grids.erase(layer.result);
    } else if (std::holds_alternative<GeluLayer>(layer.op)) {
      std::vector<std::uint8_t>& exponents = calibration.grids.at(layer.result).exponents;
      exponents.assign(layer.channels, 0);
      for (std::size_t c = 0; c < layer.channels; c += 100)
        exponents[c] = 1;  // as few as are usual
    }
  }
  return model;
}

}  // namespace intaglio
