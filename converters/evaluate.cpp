#include "converters/evaluate.h"

#include <algorithm>
#include <cmath>

#include "converters/float_executor.h"
#include "engine/decode_image.h"
#include "engine/preprocess.h"
#include "engine/thread_pool.h"
#include "graph/error.h"
#include "graph/parallel.h"

namespace intaglio {
namespace {

/// Images that are in memory at a time, for each thread.
constexpr std::size_t kChunk = 8;
constexpr std::size_t kLargestChunk = 64;

class Evaluator {
 public:
  Evaluator(const Network& network, const Model& model, const EvaluateOptions& options)
      : network_(network),
        options_(options),
        executor_(network, options.threads),
        pool_(options.threads),
        session_(model, &pool_) {}

  /// At most kChunk images per thread.
  void add(std::span<const InputImage> images) {
    const std::vector<std::size_t> labels = load(images);
    if (labels.empty()) return;
    const std::size_t size = pixels_.size() / labels.size();
    const Model& model = session_.model();
    const std::size_t classes = model.classes();
    std::vector<ImageView> views;
    for (std::size_t i = 0; i < labels.size(); ++i) {
      views.push_back({pixels_.data() + i * size, static_cast<int>(model.width()),
                       static_cast<int>(model.height()), 3 * model.width()});
    }
    const std::vector<float> expected = executor_.run(pixels_, labels.size());
    std::vector<std::int32_t> found(labels.size() * classes);
    session_.run(views, found);
    for (std::size_t i = 0; i < labels.size(); ++i) {
      count(std::span(expected).subspan(i * classes, classes),
            std::span(found).subspan(i * classes, classes), labels[i]);
    }
  }

  Evaluation result() const {
    Evaluation evaluation = counts_;
    if (evaluation.images == 0) return evaluation;
    const auto images = static_cast<double>(evaluation.images);
    for (double* share :
         {&evaluation.float_top1, &evaluation.integer_top1, &evaluation.agreement}) {
      *share *= 100 / images;
    }
    const auto classes = static_cast<double>(session_.model().classes());
    evaluation.logit_rmse = std::sqrt(squares_ / (images * classes));
    return evaluation;
  }

 private:
  /// Fills pixels_ with the images that can be read; their labels.
  std::vector<std::size_t> load(std::span<const InputImage> images) {
    const std::size_t size = Preprocessor(network_.preprocessing).size();
    pixels_.resize(images.size() * size);
    std::vector<std::string> errors(images.size());
    run_pieces(images.size(), options_.threads, [&](std::size_t i) {
      try {
        Preprocessor(network_.preprocessing)
            .run(load_image(images[i].path), std::span(pixels_).subspan(i * size, size));
      } catch (const Error& error) {
        errors[i] = error.what();
      }
    });
    std::vector<std::size_t> labels;
    for (std::size_t i = 0; i < images.size(); ++i) {
      if (!errors[i].empty()) {
        ++counts_.failed;
        if (options_.failed) options_.failed(errors[i]);
        continue;
      }
      // The images that can be read move together.
      if (labels.size() < i) {
        std::copy_n(pixels_.data() + i * size, size, pixels_.data() + labels.size() * size);
      }
      labels.push_back(images[i].label.value());
    }
    pixels_.resize(labels.size() * size);
    return labels;
  }

  void count(std::span<const float> expected, std::span<const std::int32_t> found,
             std::size_t label) {
    const auto best = [](const auto& logits) {
      return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) -
                                      logits.begin());
    };
    const std::size_t of_float = best(expected);
    const std::size_t of_integer = best(found);
    ++counts_.images;
    counts_.float_top1 += of_float == label ? 1 : 0;
    counts_.integer_top1 += of_integer == label ? 1 : 0;
    counts_.agreement += of_float == of_integer ? 1 : 0;
    const double scale = session_.model().logit_scale();
    for (std::size_t c = 0; c < expected.size(); ++c) {
      const double error = scale * found[c] - double{expected[c]};
      squares_ += error * error;
    }
  }

  const Network& network_;
  const EvaluateOptions& options_;
  FloatExecutor executor_;
  ThreadPool pool_;
  Session session_;
  std::vector<std::uint8_t> pixels_;  // [images, height, width, 3]
  Evaluation counts_;                 // shares still as counts
  double squares_ = 0;
};

}  // namespace

Evaluation evaluate(const Network& network, const Model& model, std::span<const InputImage> images,
                    const EvaluateOptions& options) {
  Evaluator evaluator(network, model, options);
  const std::size_t chunk =
      std::min(kLargestChunk, kChunk * std::max<std::size_t>(1, options.threads));
  for (std::size_t begin = 0; begin < images.size(); begin += chunk) {
    const std::size_t count = std::min(chunk, images.size() - begin);
    evaluator.add(images.subspan(begin, count));
    if (options.progress) options.progress(begin + count);
  }
  return evaluator.result();
}

}  // namespace intaglio
