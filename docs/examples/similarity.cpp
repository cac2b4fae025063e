// Looks for the images that resemble one: ranks them by the cosine between their features.
//
//   similarity MODEL.intg QUERY IMAGE...
//
// The features are the class token of a ViT, the last stage of a Swin, averaged over its places.
#include <intaglio/decode_image.h>
#include <intaglio/intaglio.h>
#include <intaglio/preprocess.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

/// Makes one vector of length 1 of each image, or of length 0.
class Embedder {
 public:
  explicit Embedder(const intaglio::Model& model)
      : session_(model),
        preprocessor_(model.preprocessing()),
        pixels_(static_cast<int>(model.width()), static_cast<int>(model.height())) {
    const std::vector<std::string> names = model.features();
    const bool token = std::ranges::find(names, "class_token") != names.end();
    feature_ = {token || names.empty() ? "class_token" : names.back()};
  }

  std::vector<float> embed(const char* file) {
    preprocessor_.run(intaglio::load_image(file), pixels_.pixels);
    // What only the logits need is not computed.
    const intaglio::FeatureMap& feature = session_.features(pixels_, feature_)[0];
    floats_.resize(feature.height * feature.width * feature.channels);
    intaglio::to_float(feature, intaglio::FeatureLayout::kNhwc, floats_);
    std::vector<float> sum(feature.channels);
    for (std::size_t i = 0; i < floats_.size(); ++i) sum[i % sum.size()] += floats_[i];
    float squares = 0;
    for (const float value : sum) squares += value * value;
    if (squares == 0) return sum;  // resembles nothing
    for (float& value : sum) value /= std::sqrt(squares);
    return sum;
  }

 private:
  intaglio::Session session_;
  intaglio::Preprocessor preprocessor_;
  intaglio::Image pixels_;
  std::vector<std::string> feature_;
  std::vector<float> floats_;
};

int run(int argc, char** argv) {
  Embedder embedder(intaglio::Model::load(argv[1]));
  const std::vector<float> query = embedder.embed(argv[2]);
  std::vector<std::pair<float, const char*>> ranking;
  for (int i = 3; i < argc; ++i) {
    const std::vector<float> other = embedder.embed(argv[i]);
    float cosine = 0;
    for (std::size_t c = 0; c < query.size(); ++c) cosine += query[c] * other[c];
    ranking.emplace_back(cosine, argv[i]);
  }
  std::ranges::stable_sort(ranking, [](const auto& a, const auto& b) { return a.first > b.first; });
  for (const auto& [cosine, file] : ranking) std::printf("%6.3f  %s\n", double{cosine}, file);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: similarity MODEL.intg QUERY IMAGE...\n");
    return 2;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {  // intaglio::Error says what is wrong, and where
    std::fprintf(stderr, "similarity: %s\n", e.what());
    return 1;
  }
}
