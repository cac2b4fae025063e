#include "converters/float_executor.h"

#include <algorithm>

#include "converters/float_attention.h"
#include "converters/float_math.h"
#include "engine/thread_pool.h"
#include "graph/error.h"
#include "graph/parallel.h"

namespace intaglio {
namespace {

using Floats = std::vector<float>;

/// One batch on its way through the network.
class Run {
 public:
  Run(const Network& network, std::size_t threads, std::span<const std::uint8_t> pixels,
      std::size_t images, TensorObserver* observer)
      : network_(network),
        threads_(threads),
        pixels_(pixels),
        images_(images),
        observer_(observer),
        results_(network.layers.size()) {}

  void layer(std::size_t id) {
    const Layer& layer = network_.layers[id];
    Floats& dst = results_[id] = take(images_ * layer.rows * layer.channels);
    std::visit([&](const auto& op) { execute(layer, op, results_[layer.src], dst); }, layer.op);
    require_finite(layer.result, dst);
    observe(layer.result, dst, layer.channels);
  }
  void release(std::size_t id) { free_.push_back(std::move(results_[id])); }
  Floats& result(std::size_t id) { return results_[id]; }

 private:
  /// Memory of results that are no longer needed serves again.
  Floats take(std::size_t count) {
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->capacity() >= count && (best == free_.end() || it->capacity() < best->capacity())) {
        best = it;
      }
    }
    Floats taken;
    if (best != free_.end()) {
      taken = std::move(*best);
      free_.erase(best);
    }
    taken.resize(count);
    return taken;
  }
  void observe(const std::string& name, Floats& values, std::size_t channels) {
    if (observer_ != nullptr) observer_->tensor(name, values, channels);
  }
  static void require_finite(const std::string& name, const Floats& values) {
    float sum = 0;  // becomes NaN with the first value that is not finite
    for (const float v : values) sum += v * 0;
    if (!(sum == 0)) {
      throw Error(ErrorCode::kUnsupported,
                  "tensor '" + name + "': the float network overflows on these images");
    }
  }
  template <typename Body>
  void each_image(const Body& body) {
    run_pieces(images_, threads_, [&](std::size_t image) {
      no_threads_of_openmp();
      body(image);
    });
  }
  /// Part of `values` that belongs to an image.
  template <typename FloatsT>
  auto part(FloatsT& values, std::size_t image) const {
    return values.data() + image * (values.size() / images_);
  }

  void execute(const Layer& layer, const PatchesLayer& op, const Floats&, Floats& dst) {
    const std::size_t height = network_.image_height;
    const std::size_t width = network_.image_width;
    const std::size_t run = op.patch * 3;  // floats of a patch that lie side by side in the image
    const std::size_t across = (width + op.patch - 1) / op.patch;
    float table[3][256];
    for (std::size_t c = 0; c < 3; ++c) {
      for (std::size_t p = 0; p < 256; ++p) {
        table[c][p] = (static_cast<float>(p) / 255.0F - static_cast<float>(op.mean[c])) /
                      static_cast<float>(op.std[c]);
      }
    }
    each_image([&](std::size_t image) {
      const std::uint8_t* src = pixels_.data() + image * height * width * 3;
      for (std::size_t patch = 0; patch < layer.rows; ++patch) {
        float* out = part(dst, image) + patch * layer.channels;
        const std::size_t left = patch % across * run;
        for (std::size_t y = 0; y < op.patch; ++y) {
          const std::size_t row = patch / across * op.patch + y;
          const std::size_t inside = row < height ? std::min(run, width * 3 - left) : 0;
          const std::uint8_t* in = src + row * width * 3 + left;
          for (std::size_t i = 0; i < inside; ++i) out[y * run + i] = table[i % 3][in[i]];
          for (std::size_t i = inside; i < run; ++i) {
            out[y * run + i] = static_cast<float>(op.beyond[i % 3]);
          }
        }
      }
    });
  }

  void execute(const Layer& layer, const EmbedLayer& op, const Floats& src, Floats& dst) {
    for (std::size_t image = 0; image < images_; ++image) {
      float* patches = std::copy(op.tokens.begin(), op.tokens.end(), part(dst, image));
      std::copy_n(part(src, image), src.size() / images_, patches);
    }
    observe(kTokenGrid, dst, layer.channels);
    Floats position = op.position;
    observe(kPositionGrid, position, layer.channels);
    for (std::size_t i = 0; i < dst.size(); ++i) dst[i] += position[i % position.size()];
  }

  void execute(const Layer& layer, const LinearLayer& op, const Floats& src, Floats& dst) {
    each_image([&](std::size_t image) {
      float* out = part(dst, image);
      Product{layer.rows, op.n, op.k, part(src, image), op.weight.data(), out, op.k, op.k, op.n}
          .run();
      if (op.bias.empty()) return;
      for (std::size_t r = 0; r < layer.rows; ++r) {
        for (std::size_t j = 0; j < op.n; ++j) out[r * op.n + j] += op.bias[j];
      }
    });
  }

  void execute(const Layer& layer, const NormLayer& op, const Floats& src, Floats& dst) {
    const std::size_t n = op.gamma.size();
    each_image([&](std::size_t image) {
      for (std::size_t r = 0; r < layer.rows; ++r) {
        normalize(op, part(src, image) + r * n, part(dst, image) + r * n);
      }
    });
  }

  void execute(const Layer& layer, const AttentionLayer& op, const Floats& src, Floats& dst) {
    const FloatAttention attention(layer);
    const ScoreLayout& layout = attention.layout();
    Floats scores = take(images_ * layout.size());
    each_image([&](std::size_t image) { attention.scores(part(src, image), part(scores, image)); });
    if (!op.bias.empty()) {
      observe(score_grid_of(layer), scores, 1);
      Floats bias = op.bias;
      observe(bias_grid_of(layer), bias, 1);
      each_image([&](std::size_t image) { attention.add_bias(bias, part(scores, image)); });
    }
    const bool done =
        observer_ != nullptr && observer_->scores(softmax_grid_of(layer), scores, layout);
    if (!done) each_image([&](std::size_t image) { attention.softmax(part(scores, image)); });
    if (observer_ != nullptr) observer_->probabilities(probability_grid_of(layer), scores, layout);
    each_image([&](std::size_t image) {
      attention.attend(part(src, image), part(scores, image), part(dst, image));
    });
    free_.push_back(std::move(scores));
  }

  void execute(const Layer& layer, const GeluLayer&, const Floats& src, Floats& dst) {
    const std::size_t count = layer.rows * layer.channels;
    each_image([&](std::size_t image) {
      std::copy_n(part(src, image), count, part(dst, image));
      gelu(part(dst, image), count);
    });
  }

  void execute(const Layer&, const AddLayer& op, const Floats& src, Floats& dst) {
    const Floats& stream = results_[op.stream];
    for (std::size_t i = 0; i < dst.size(); ++i) dst[i] = src[i] + stream[i];
  }

  void execute(const Layer& layer, const SelectLayer&, const Floats& src, Floats& dst) {
    for (std::size_t image = 0; image < images_; ++image) {
      std::copy_n(part(src, image), layer.rows * layer.channels, part(dst, image));
    }
  }

  void execute(const Layer& layer, const MergeLayer&, const Floats& src, Floats& dst) {
    const Layer& from = network_.layers[layer.src];
    const std::size_t height = from.rows / from.width;
    each_image([&](std::size_t image) {
      float* out = part(dst, image);
      for (std::size_t row = 0; row < layer.rows; ++row) {
        for (std::size_t i = 0; i < 4; ++i, out += from.channels) {
          const std::size_t y = row / layer.width * 2 + i % 2;
          const std::size_t x = row % layer.width * 2 + i / 2;
          if (y < height && x < from.width) {
            std::copy_n(part(src, image) + (y * from.width + x) * from.channels, from.channels,
                        out);
          } else {
            std::fill_n(out, from.channels, 0.0F);
          }
        }
      }
    });
  }

  void execute(const Layer& layer, const MeanLayer&, const Floats& src, Floats& dst) {
    const std::size_t rows = network_.layers[layer.src].rows;
    each_image([&](std::size_t image) {
      for (std::size_t c = 0; c < layer.channels; ++c) {
        double sum = 0;
        for (std::size_t r = 0; r < rows; ++r) {
          sum += double{part(src, image)[r * layer.channels + c]};
        }
        part(dst, image)[c] = static_cast<float>(sum / static_cast<double>(rows));
      }
    });
  }

  const Network& network_;
  std::size_t threads_;
  std::span<const std::uint8_t> pixels_;
  std::size_t images_;
  TensorObserver* observer_;
  std::vector<Floats> results_, free_;
};

}  // namespace

FloatExecutor::FloatExecutor(const Network& network, std::size_t threads)
    : network_(network),
      last_reader_(network.layers.size()),
      threads_(threads != 0 ? threads : available_cpus()) {
  for (std::size_t id = 0; id < network.layers.size(); ++id) {
    last_reader_[network.layers[id].src] = id;
    if (const auto* add = std::get_if<AddLayer>(&network.layers[id].op)) {
      last_reader_[add->stream] = id;
    }
  }
}

std::vector<float> FloatExecutor::run(std::span<const std::uint8_t> pixels, std::size_t images,
                                      TensorObserver* observer) {
  Run run(network_, threads_, pixels, images, observer);
  const std::size_t layers = network_.layers.size();
  for (std::size_t id = 0; id < layers; ++id) {
    run.layer(id);
    for (std::size_t before = 0; before < id; ++before) {
      if (last_reader_[before] == id) run.release(before);
    }
  }
  return std::move(run.result(layers - 1));
}

}  // namespace intaglio
