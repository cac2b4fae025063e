#include "converters/float_executor.h"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <oneapi/dnnl/dnnl.hpp>

#include "engine/thread_pool.h"
#include "graph/error.h"
#include "graph/parallel.h"

namespace intaglio {
namespace {

using Floats = std::vector<float>;

dnnl::memory::dim dim(std::size_t n) {
  return static_cast<dnnl::memory::dim>(n);
}

/// c [m, n] = alpha * a [m, k] * b^T, b [n, k]; with `plain`, b is [k, n].
struct Product {
  std::size_t m, n, k;
  const float *a, *b;
  float* c;
  std::size_t a_stride, b_stride, c_stride;
  float alpha = 1;
  bool plain = false;

  void run() const {
    const auto status = dnnl::sgemm('N', plain ? 'N' : 'T', dim(m), dim(n), dim(k), alpha, a,
                                    dim(a_stride), b, dim(b_stride), 0, c, dim(c_stride));
    if (status != dnnl::status::success) {
      throw Error(ErrorCode::kUnsupported, "oneDNN cannot multiply these matrices");
    }
  }
};

dnnl::memory::desc matrix(std::size_t rows, std::size_t columns) {
  return {{dim(rows), dim(columns)}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::ab};
}

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

void run_in_place(const dnnl::primitive& primitive, const dnnl::memory::desc& shape,
                  float* values) {
  dnnl::stream stream(cpu());
  dnnl::memory memory(shape, cpu(), values);
  primitive.execute(stream, {{DNNL_ARG_SRC, memory}, {DNNL_ARG_DST, memory}});
  stream.wait();
}

void gelu(float* values, std::size_t count) {
  const auto shape = matrix(1, count);
  const dnnl::eltwise_forward::desc desc(dnnl::prop_kind::forward_inference,
                                         dnnl::algorithm::eltwise_gelu_erf, shape);
  run_in_place(dnnl::eltwise_forward({desc, cpu()}), shape, values);
}

void softmax(float* values, std::size_t rows, std::size_t columns) {
  const auto shape = matrix(rows, columns);
  const dnnl::softmax_forward::desc desc(dnnl::prop_kind::forward_inference, shape, 1);
  run_in_place(dnnl::softmax_forward({desc, cpu()}), shape, values);
}

/// oneDNN is built with OpenMP, whose threads spin while they wait: the executor has threads of its
/// own instead. Through the loader, because compilers bring different OpenMP runtimes.
void no_threads_of_openmp() {
  using SetThreads = void (*)(int);
  static const auto set = reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  if (set != nullptr) set(1);
}

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
    const std::size_t across = width / op.patch;
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
        for (std::size_t y = 0; y < op.patch; ++y) {
          const std::uint8_t* row =
              src + ((patch / across * op.patch + y) * width + patch % across * op.patch) * 3;
          for (std::size_t i = 0; i < run; ++i) out[y * run + i] = table[i % 3][row[i]];
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

  static void normalize(const NormLayer& op, const float* x, float* dst) {
    const std::size_t n = op.gamma.size();
    const auto count = static_cast<double>(n);
    double mean = 0;
    for (std::size_t c = 0; c < n; ++c) mean += double{x[c]};
    mean /= count;
    double variance = 0;
    for (std::size_t c = 0; c < n; ++c) variance += (x[c] - mean) * (x[c] - mean);
    const double rate = 1 / std::sqrt(variance / count + double{op.epsilon});
    for (std::size_t c = 0; c < n; ++c) {
      dst[c] = static_cast<float>((x[c] - mean) * rate * double{op.gamma[c]} + double{op.beta[c]});
    }
  }

  void execute(const Layer& layer, const AttentionLayer& op, const Floats& src, Floats& dst) {
    const std::size_t tokens = layer.rows;
    const std::size_t width = layer.channels;
    const std::size_t d = width / op.heads;
    const std::size_t map = tokens * tokens;
    Floats scores = take(images_ * op.heads * map);
    const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
    each_image([&](std::size_t image) {
      for (std::size_t h = 0; h < op.heads; ++h) {
        const float* q = part(src, image) + h * d;
        float* s = part(scores, image) + h * map;
        Product{tokens, tokens, d, q, q + width, s, 3 * width, 3 * width, tokens, scale}.run();
      }
    });
    const bool done =
        observer_ != nullptr && observer_->scores(score_grid_of(layer), scores, tokens);
    if (!done) {
      each_image(
          [&](std::size_t image) { softmax(part(scores, image), op.heads * tokens, tokens); });
    }
    if (observer_ != nullptr) observer_->probabilities(probability_grid_of(layer), scores, tokens);
    each_image([&](std::size_t image) {
      for (std::size_t h = 0; h < op.heads; ++h) {
        const float* v = part(src, image) + 2 * width + h * d;
        const float* p = part(scores, image) + h * map;
        float* out = part(dst, image) + h * d;
        Product{tokens, d, tokens, p, v, out, tokens, 3 * width, width, 1, true}.run();
      }
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

  void execute(const Layer& layer, const MergeLayer&, const Floats&, Floats&) {
    throw Error(ErrorCode::kUnsupported, layer.name + ": not yet");
  }

  void execute(const Layer& layer, const MeanLayer&, const Floats&, Floats&) {
    throw Error(ErrorCode::kUnsupported, layer.name + ": not yet");
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
