// Classifies images: the best classes of each, with their probabilities.
//
//   classify MODEL.intg IMAGE...
#include <intaglio/decode_image.h>
#include <intaglio/intaglio.h>
#include <intaglio/preprocess.h>

#include <cstdio>
#include <exception>

namespace {

constexpr std::size_t kBest = 3;

int run(int argc, char** argv) {
  const intaglio::Model model = intaglio::Model::load(argv[1]);  // shared by any number of threads
  intaglio::Session session(model);                              // one per thread
  intaglio::Preprocessor preprocessor(model.preprocessing());    // likewise
  intaglio::Image pixels(static_cast<int>(model.width()), static_cast<int>(model.height()));

  for (int i = 2; i < argc; ++i) {
    preprocessor.run(intaglio::load_image(argv[i]), pixels.pixels);
    const auto logits = session.run(pixels);  // integers, valid until the next run()
    const auto shares = intaglio::probabilities(logits, model.logit_scale());
    std::printf("%s\n", argv[i]);
    for (const intaglio::Prediction& p : intaglio::top_k(logits, kBest)) {
      std::printf("  %5.1f %%  %s\n", 100 * shares[p.index], model.label(p.index).c_str());
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: classify MODEL.intg IMAGE...\n");
    return 2;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {  // intaglio::Error says what is wrong, and where
    std::fprintf(stderr, "classify: %s\n", e.what());
    return 1;
  }
}
