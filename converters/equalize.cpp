#include "converters/equalize.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace intaglio {
namespace {

/// Channels that hardly vary, or that hardly anything reads, get no scale beyond 1 / kReach of the
/// largest channel's.
constexpr double kReach = 1e4;

LinearLayer* linear_at(Network& network, std::size_t id) {
  return std::get_if<LinearLayer>(&network.layers[id].op);
}
/// The one layer that reads a result, or the result itself: no layer reads its own.
std::size_t only_reader(const Network& network, std::size_t id) {
  const std::vector<std::size_t> readers = network.readers_of(id);
  return readers.size() == 1 ? readers[0] : id;
}

/// Root mean square of what each input channel is multiplied with.
std::vector<double> column_sizes(const FloatLinear& layer) {
  std::vector<double> sizes(layer.k);
  for (std::size_t i = 0; i < layer.weight.size(); ++i) {
    sizes[i % layer.k] += double{layer.weight[i]} * double{layer.weight[i]};
  }
  for (double& s : sizes) s = std::sqrt(s / static_cast<double>(layer.n));
  return sizes;
}

/// sqrt(a / b) per channel, both bounded from below.
std::vector<double> balance(std::vector<double> a, std::vector<double> b) {
  for (std::vector<double>* sizes : {&a, &b}) {
    const double largest = *std::max_element(sizes->begin(), sizes->end());
    for (double& s : *sizes) s = largest > 0 ? std::max(s, largest / kReach) : 1;
  }
  for (std::size_t c = 0; c < a.size(); ++c) a[c] = std::sqrt(a[c] / b[c]);
  return a;
}

/// The layer reads (x - offset) / scale where it has read x.
void absorb(FloatLinear& layer, const std::vector<double>& scale,
            const std::vector<double>& offset) {
  layer.bias.resize(layer.n);
  for (std::size_t j = 0; j < layer.n; ++j) {
    double bias = double{layer.bias[j]};
    for (std::size_t c = 0; c < layer.k; ++c) {
      float& w = layer.weight[j * layer.k + c];
      bias += double{w} * offset[c];
      w = static_cast<float>(double{w} * scale[c]);
    }
    layer.bias[j] = static_cast<float>(bias);
  }
}

/// Output channel j of the layer becomes (y - offset) / scale.
void rescale_output(FloatLinear& layer, std::size_t j, double scale, double offset) {
  for (std::size_t c = 0; c < layer.k; ++c) {
    float& w = layer.weight[j * layer.k + c];
    w = static_cast<float>(double{w} / scale);
  }
  layer.bias[j] = static_cast<float>((double{layer.bias[j]} - offset) / scale);
}

void equalize_norm(NormLayer& norm, FloatLinear& reader, const TensorRange& range) {
  std::vector<double> radius, middle;
  for (std::size_t c = 0; c < reader.k; ++c) {
    // Before gamma and beta, a channel's values have about unit variance.
    const bool known = range.rows >= kEnoughRows;
    radius.push_back(double{known ? range.radius(c) : 4 * std::abs(norm.gamma[c])});
    middle.push_back(double{known ? range.middle(c) : norm.beta[c]});
  }
  const std::vector<double> scale = balance(std::move(radius), column_sizes(reader));
  for (std::size_t c = 0; c < reader.k; ++c) {
    norm.gamma[c] = static_cast<float>(double{norm.gamma[c]} / scale[c]);
    norm.beta[c] = static_cast<float>((double{norm.beta[c]} - middle[c]) / scale[c]);
  }
  absorb(reader, scale, middle);
}

void equalize_attention(AttentionLayer& attention, FloatLinear& qkv, FloatLinear& proj,
                        const TensorRange& range) {
  const std::size_t dim = proj.k;
  qkv.bias.resize(qkv.n);
  std::vector<double> q_reach, k_radius, v_radius, v_middle;
  for (std::size_t c = 0; c < dim; ++c) {
    q_reach.push_back(double{std::max(std::abs(range.low[c]), std::abs(range.high[c]))});
    k_radius.push_back(double{range.radius(dim + c)});
    v_radius.push_back(double{range.radius(2 * dim + c)});
    v_middle.push_back(double{range.middle(2 * dim + c)});
  }
  const std::vector<double> q_scale = balance(q_reach, k_radius);
  std::vector<double> v_scale = balance(v_radius, column_sizes(proj));
  double q_largest = 0, v_largest = 0;
  for (std::size_t c = 0; c < dim; ++c) {
    q_largest = std::max({q_largest, q_reach[c] / q_scale[c], k_radius[c] * q_scale[c]});
    v_largest = std::max(v_largest, v_radius[c] / v_scale[c]);
  }
  const double fill = q_largest > 0 && v_largest > 0 ? v_largest / q_largest : 1;
  for (double& s : v_scale) s *= fill;
  const auto rescale = [&](std::size_t j, double scale, double offset) {
    rescale_output(qkv, j, scale, offset);
    if (attention.beyond.empty()) return;
    float& beyond = attention.beyond[j];
    beyond = static_cast<float>((double{beyond} - offset) / scale);
  };
  for (std::size_t c = 0; c < dim; ++c) {
    rescale(c, q_scale[c], 0);
    rescale(dim + c, 1 / q_scale[c], double{range.middle(dim + c)});
    rescale(2 * dim + c, v_scale[c], v_middle[c]);
  }
  absorb(proj, v_scale, v_middle);
}

/// Puts a copy of layer `id` behind it, which nothing reads yet.
Layer& insert_copy(Network& network, std::size_t id) {
  const auto move = [id](std::size_t& other) { other += other > id ? 1 : 0; };
  for (Layer& layer : network.layers) {
    move(layer.src);
    if (auto* add = std::get_if<AddLayer>(&layer.op)) move(add->stream);
  }
  for (LayerFeature& feature : network.features) move(feature.layer);
  Layer copy = network.layers[id];
  return *network.layers.insert(network.layers.begin() + std::ptrdiff_t(id) + 1, std::move(copy));
}

/// Factors may move between a norm and the layer that reads it, but not out of a feature: it gets
/// a norm of its own.
void split_features(Network& network) {
  for (std::size_t i = 0; i < network.features.size(); ++i) {
    const std::size_t id = network.features[i].layer;
    const bool is_norm = std::holds_alternative<NormLayer>(network.layers[id].op);
    if (!is_norm || network.readers_of(id).empty()) continue;
    Layer& own = insert_copy(network, id);
    LayerFeature& feature = network.features[i];
    own.name = feature.name + ".norm";
    own.result = feature.name + ".qact";
    feature.layer = id + 1;
  }
}

}  // namespace

void fold_normalization(Network& network) {
  for (std::size_t id = 0; id < network.layers.size(); ++id) {
    auto* patches = std::get_if<PatchesLayer>(&network.layers[id].op);
    if (patches == nullptr) continue;
    LinearLayer* reader = linear_at(network, only_reader(network, id));
    if (reader == nullptr) continue;
    std::vector<double> scale, offset;
    for (std::size_t i = 0; i < reader->k; ++i) {
      scale.push_back(1 / (255 * patches->std[i % 3]));
      offset.push_back(-patches->mean[i % 3] / patches->std[i % 3]);
    }
    absorb(*reader, scale, offset);
    for (std::size_t c = 0; c < 3; ++c) {
      patches->beyond[c] = 255 * (patches->beyond[c] * patches->std[c] + patches->mean[c]);
    }
    patches->mean = {0, 0, 0};
    patches->std = {1.0 / 255, 1.0 / 255, 1.0 / 255};
  }
}

void equalize(Network& network, const TensorRanges& ranges) {
  split_features(network);
  const auto is_mean = [&](std::size_t id) {
    return std::holds_alternative<MeanLayer>(network.layers[id].op);
  };
  for (std::size_t id = 0; id + 1 < network.layers.size(); ++id) {
    Layer& layer = network.layers[id];
    auto* norm = std::get_if<NormLayer>(&layer.op);
    auto* attention = std::get_if<AttentionLayer>(&layer.op);
    if (norm == nullptr && attention == nullptr) continue;
    const std::size_t next = only_reader(network, id);
    const std::size_t last = norm != nullptr && is_mean(next) ? only_reader(network, next) : next;
    LinearLayer* reader = linear_at(network, last);
    if (reader == nullptr) continue;
    if (norm != nullptr) {
      // What the linear layer reads matters more, but of means one row is seen per image.
      const TensorRange& mean = ranges.at(network.layers[network.layers[last].src].result);
      equalize_norm(*norm, *reader, mean.rows >= kEnoughRows ? mean : ranges.at(layer.result));
    } else {
      LinearLayer* qkv = linear_at(network, layer.src);
      equalize_attention(*attention, *qkv, *reader, ranges.at(network.layers[layer.src].result));
    }
  }
}

}  // namespace intaglio
