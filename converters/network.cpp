#include "converters/network.h"

#include <algorithm>

namespace intaglio {

std::string score_grid_of(const Layer& attention) {
  return attention.name + ".qact_attn1";
}

std::string bias_grid_of(const Layer& attention) {
  return attention.name + ".qact_table";
}

std::string biased_grid_of(const Layer& attention) {
  return attention.name + ".qact2";
}

std::string softmax_grid_of(const Layer& attention) {
  const bool biased = !std::get<AttentionLayer>(attention.op).bias.empty();
  return biased ? biased_grid_of(attention) : score_grid_of(attention);
}

std::string probability_grid_of(const Layer& attention) {
  return attention.name + ".log_int_softmax";  // the module's name in FQ-ViT, whatever it does
}

std::vector<std::size_t> Network::readers_of(std::size_t id) const {
  std::vector<std::size_t> readers;
  for (std::size_t i = 1; i < layers.size(); ++i) {
    const auto* add = std::get_if<AddLayer>(&layers[i].op);
    if (layers[i].src == id || (add != nullptr && add->stream == id)) readers.push_back(i);
  }
  return readers;
}

bool Network::is_stream(std::size_t id) const {
  for (const std::size_t reader : readers_of(id)) {
    const auto& op = layers[reader].op;
    if (std::holds_alternative<NormLayer>(op)) return true;
    const bool moves_rows =
        std::holds_alternative<SelectLayer>(op) || std::holds_alternative<MergeLayer>(op);
    if (moves_rows && is_stream(reader)) return true;
  }
  return false;
}

std::vector<std::size_t> Network::needed_rows() const {
  std::vector<std::size_t> needed(layers.size());
  needed.back() = layers.back().rows;
  for (const LayerFeature& f : features) needed[f.layer] = layers[f.layer].rows;
  for (std::size_t id = layers.size() - 1; id > 0; --id) {
    const Layer& layer = layers[id];
    const Layer& src = layers[layer.src];
    const bool mixes_rows = std::holds_alternative<AttentionLayer>(layer.op) ||
                            std::holds_alternative<EmbedLayer>(layer.op) ||
                            std::holds_alternative<MergeLayer>(layer.op) ||
                            std::holds_alternative<MeanLayer>(layer.op);
    const bool selects = std::holds_alternative<SelectLayer>(layer.op);
    const std::size_t rows = mixes_rows ? src.rows
                             : selects  ? layer.rows * layer.channels / src.channels
                                        : needed[id];
    needed[layer.src] = std::max(needed[layer.src], rows);
    if (const auto* add = std::get_if<AddLayer>(&layer.op)) {
      needed[add->stream] = std::max(needed[add->stream], rows);
    }
  }
  return needed;
}

std::size_t Network::multiply_accumulates() const {
  std::size_t macs = 0;
  for (const Layer& layer : layers) {
    if (const auto* linear = std::get_if<LinearLayer>(&layer.op)) {
      macs += layer.rows * linear->n * linear->k;
    } else if (const auto* attention = std::get_if<AttentionLayer>(&layer.op)) {
      const std::size_t w = attention->window;
      const auto padded = [&](std::size_t n) { return (n + w - 1) / w * w; };
      macs += 2 * layer.channels *
              (w == 0 ? layer.rows * layer.rows
                      : padded(layer.width) * padded(layer.rows / layer.width) * w * w);
    }
  }
  return macs;
}

std::string sizes_text(const Network& network) {
  struct Stage {
    std::size_t blocks, channels, heads;
  };
  std::vector<Stage> stages;
  std::size_t window = 0;
  for (const Layer& layer : network.layers) {
    const auto* attention = std::get_if<AttentionLayer>(&layer.op);
    if (attention == nullptr) continue;
    if (stages.empty() || stages.back().channels != layer.channels) {
      stages.push_back({0, layer.channels, attention->heads});
    }
    ++stages.back().blocks;
    window = std::max(window, attention->window);
  }
  const auto joined = [&](std::size_t Stage::*number, const char* between) {
    std::string text;
    for (const Stage& stage : stages) {
      text += (text.empty() ? "" : between) + std::to_string(stage.*number);
    }
    return text;
  };
  std::string text = joined(&Stage::blocks, "+") + " blocks, " + joined(&Stage::channels, "/") +
                     " channels, " + joined(&Stage::heads, "/") + " heads";
  const std::string side = std::to_string(window);
  if (window != 0) text += ", windows of " + side + "x" + side;
  return text;
}

}  // namespace intaglio
