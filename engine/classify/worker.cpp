#include "engine/classify/worker.h"

#include <algorithm>

#include "graph/error.h"

namespace intaglio {
namespace {

/// Calls `step`; what it throws becomes the outcome.
template <typename Step>
void guarded(Job& job, const Step& step) {
  try {
    step();
  } catch (const std::bad_alloc&) {
    job.outcome.error = job.name + ": out of memory";
  } catch (const std::exception& e) {
    job.outcome.error = e.what();
  }
}

ImageView view_of(const Model& model, const std::uint8_t* pixels) {
  return {pixels, static_cast<int>(model.width()), static_cast<int>(model.height()),
          3 * model.width()};
}

}  // namespace

void Job::clear_tensors() {
  std::fill(logits.begin(), logits.end(), 0);
  for (std::vector<float>& feature : features) std::fill(feature.begin(), feature.end(), 0.F);
}

Worker::Worker(const Model& model, const DecodeLimits& limits, const Wanted& wanted,
               Executor* executor)
    : model_(model),
      limits_(limits),
      wanted_(wanted),
      preprocessor_(model.preprocessing()),
      session_(model, executor),
      features_(wanted.features.empty() ? nullptr : std::make_unique<Session>(model, executor)),
      logits_(model.classes()) {}

void Worker::decode(Job& job) {
  if (!job.outcome.error.empty()) return;
  guarded(job, [&] {
    job.pixels.resize(preprocessor_.size());
    preprocessor_.run(decode_image(job.bytes, job.name, limits_), job.pixels);
  });
}

void Worker::infer(Job& job) {
  if (job.outcome.error.empty()) guarded(job, [&] { run(job); });
  if (job.outcome.error.empty()) return;
  job.outcome.top.clear();
  job.clear_tensors();
}

void Worker::run(Job& job) {
  const ImageView view = view_of(model_, job.pixels.data());
  session_.run({&view, 1}, logits_);
  const std::vector<double> probability = probabilities(logits_, model_.logit_scale());
  for (const Prediction& p : top_k(logits_, wanted_.top_k)) {
    job.outcome.top.push_back({p, probability[p.index]});
  }
  if (wanted_.logits) std::copy(logits_.begin(), logits_.end(), job.logits.begin());
  if (!features_) return;
  const std::span<const FeatureMap> maps = features_->features(view, wanted_.features);
  for (std::size_t i = 0; i < maps.size(); ++i) {
    to_float(maps[i], FeatureLayout::kNhwc, job.features[i]);
  }
}

std::vector<FeatureShape> feature_shapes(const Model& model,
                                         const std::vector<std::string>& names) {
  if (names.empty()) return {};
  const std::vector<std::uint8_t> black(3 * model.height() * model.width());
  Session session(model);
  std::vector<FeatureShape> shapes;
  for (const FeatureMap& map : session.features(view_of(model, black.data()), names)) {
    shapes.push_back({map.name, map.height, map.width, map.channels});
  }
  return shapes;
}

}  // namespace intaglio
