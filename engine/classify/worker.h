// What one thread needs to classify images; allocates nothing while sizes repeat, but for decoding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/classify/rows.h"
#include "engine/decode_image.h"
#include "engine/preprocess.h"

namespace intaglio {

/// What is to be known of each image.
struct Wanted {
  std::size_t top_k = 5;
  bool logits = false;
  std::vector<std::string> features;  ///< names; none: no features
};

/// One image on its way.
struct Job {
  std::size_t index = 0;  ///< place in the order
  std::string name;
  std::vector<std::byte> bytes;              ///< the file, until it is decoded
  std::vector<std::uint8_t> pixels;          ///< what the model takes, until it has run
  Outcome outcome;                           ///< an error as soon as something fails
  std::vector<std::int32_t> logits;          ///< where wanted; zeros behind an error
  std::vector<std::vector<float>> features;  ///< likewise, in the order of the model

  /// The zeros of an image that failed.
  void clear_tensors();
};

class Worker {
 public:
  /// `executor` null: everything runs on the caller's thread.
  Worker(const Model& model, const DecodeLimits& limits, const Wanted& wanted, Executor* executor);

  /// bytes -> pixels. Like infer(), never throws for what is wrong with one image.
  void decode(Job& job);
  /// pixels -> outcome, logits, features. Begins with what decode() has found.
  void infer(Job& job);

 private:
  void run(Job& job);

  Model model_;
  DecodeLimits limits_;
  Wanted wanted_;
  Preprocessor preprocessor_;
  Session session_;
  std::unique_ptr<Session> features_;  // of its own: each keeps its plan
  std::vector<std::int32_t> logits_;
};

/// A feature of every image.
struct FeatureShape {
  std::string name;
  std::size_t height = 0, width = 0, channels = 0;
};
/// Of the features that are wanted, in the order that jobs have them. Throws Error for an unknown
/// name.
std::vector<FeatureShape> feature_shapes(const Model& model, const std::vector<std::string>& names);

}  // namespace intaglio
