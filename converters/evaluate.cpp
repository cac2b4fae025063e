#include "converters/evaluate.h"

#include <algorithm>

#include "converters/calibration_images.h"
#include "converters/float_executor.h"
#include "engine/thread_pool.h"

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

  /// At most kLargestChunk images.
  void add(std::span<const LabelledImage> images) {
    std::vector<std::filesystem::path> paths;
    for (const LabelledImage& image : images) paths.push_back(image.path);
    const ReadableImages readable = load_readable(paths, network_.preprocessing, options_.threads);
    failed_ += readable.errors.size();
    for (const std::string& error : readable.errors) {
      if (options_.failed) options_.failed(error);
    }
    const std::size_t count = readable.read.size();
    if (count == 0) return;
    const std::size_t size = readable.pixels.size() / count;
    const Model& model = session_.model();
    const std::size_t classes = model.classes();
    std::vector<ImageView> views;
    for (std::size_t i = 0; i < count; ++i) {
      views.push_back({readable.pixels.data() + i * size, static_cast<int>(model.width()),
                       static_cast<int>(model.height()), 3 * model.width()});
    }
    const std::vector<float> expected = executor_.run(readable.pixels, count);
    std::vector<std::int32_t> found(count * classes);
    session_.run(views, found);
    for (std::size_t i = 0; i < count; ++i) {
      sums_.add(std::span(expected).subspan(i * classes, classes),
                std::span(found).subspan(i * classes, classes), model.logit_scale(),
                images[readable.read[i]].label);
    }
  }

  Evaluation result() const { return {sums_.result(), failed_}; }

 private:
  const Network& network_;
  const EvaluateOptions& options_;
  FloatExecutor executor_;
  ThreadPool pool_;
  Session session_;
  LogitSums sums_;
  std::size_t failed_ = 0;
};

}  // namespace

Evaluation evaluate(const Network& network, const Model& model,
                    std::span<const LabelledImage> images, const EvaluateOptions& options) {
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
