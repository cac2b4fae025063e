#include "engine/classify/batch_tensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "graph/error.h"

namespace intaglio {
namespace {

/// Unless told otherwise, what a file holds, and what is held until it is written.
constexpr std::size_t kFileBytes = std::size_t{64} << 20;
constexpr std::size_t kFileRows = 4096;
constexpr std::size_t kMaxFileBytes = std::size_t{4} << 30;

std::size_t rows_per_file(std::size_t wanted, std::size_t row_bytes) {
  if (wanted == 0) return std::clamp<std::size_t>(kFileBytes / row_bytes, 1, kFileRows);
  if (wanted > kMaxFileBytes / row_bytes) {
    throw Error(ErrorCode::kInvalidArgument, "--rows-per-file: expected at most " +
                                                 std::to_string(kMaxFileBytes / row_bytes) +
                                                 " for rows of " + std::to_string(row_bytes) +
                                                 " bytes, found " + std::to_string(wanted));
  }
  return wanted;
}

}  // namespace

BatchTensors::BatchTensors(const BatchOptions& options, const Model& model) {
  std::vector<ShardTensor> logits, features;
  if (!options.logits.empty()) {
    logits.push_back({"logits", DType::kS32, {model.classes()}});
    empty_.logits.resize(model.classes());
  }
  for (const FeatureShape& f : feature_shapes(model, options.wanted.features)) {
    features.push_back({f.name, DType::kF32, {f.height, f.width, f.channels}});
    empty_.features.emplace_back(f.height * f.width * f.channels);
  }
  std::size_t row_bytes = 0;
  for (const auto* tensors : {&logits, &features}) {
    for (const ShardTensor& tensor : *tensors) row_bytes += tensor.row_bytes();
  }
  if (row_bytes == 0) return;
  rows_per_file_ = rows_per_file(options.rows_per_file, row_bytes);
  if (!logits.empty()) {
    const std::string scale = nlohmann::json(model.logit_scale()).dump();
    shards_.emplace_back(options.logits, logits,
                         std::map<std::string, std::string>{{"logit_scale", scale}},
                         rows_per_file_);
    of_logits_.push_back(true);
  }
  if (!features.empty()) {
    shards_.emplace_back(options.features, features, std::map<std::string, std::string>(),
                         rows_per_file_);
    of_logits_.push_back(false);
  }
}

void BatchTensors::clear(bool remove) const {
  for (const TensorShards& shards : shards_) shards.clear(remove);
}

std::size_t BatchTensors::skippable(std::size_t rows) const {
  for (const TensorShards& shards : shards_) rows = std::min(rows, shards.complete_rows());
  return any() ? rows / rows_per_file_ * rows_per_file_ : rows;
}

void BatchTensors::check_name(std::size_t row, const std::string& name) {
  for (TensorShards& shards : shards_) shards.check_name(row, name);
}

void BatchTensors::start(std::size_t row) {
  for (TensorShards& shards : shards_) shards.start(row);
}

bool BatchTensors::almost_full() const {
  return any() && shards_[0].almost_full();
}

void BatchTensors::append(const Job& job) {
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    std::vector<std::span<const std::byte>> rows;
    if (of_logits_[i]) {
      rows.push_back(std::as_bytes(std::span(job.logits)));
    } else {
      for (const std::vector<float>& feature : job.features) {
        rows.push_back(std::as_bytes(std::span(feature)));
      }
    }
    shards_[i].append(job.name, !job.outcome.error.empty(), rows);
  }
}

void BatchTensors::finish() {
  for (TensorShards& shards : shards_) shards.finish();
}

}  // namespace intaglio
