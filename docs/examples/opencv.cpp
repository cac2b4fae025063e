// Classifies what OpenCV holds: a cv::Mat is read where it lies, in BGR and with its stride.
//
//   opencv MODEL.intg IMAGE...
#include <intaglio/intaglio.h>
#include <intaglio/preprocess.h>

#include <cstdio>
#include <exception>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <stdexcept>

namespace {

constexpr std::size_t kBest = 3;

/// A matrix of bytes as an image; it must outlive the view.
intaglio::ImageView view_of(const cv::Mat& mat) {
  intaglio::ImageView view = {mat.data, mat.cols, mat.rows, mat.step};
  switch (mat.type()) {
    case CV_8UC1:
      view.format = intaglio::PixelFormat::kGrey;
      return view;
    case CV_8UC3:
      view.format = intaglio::PixelFormat::kBgr;
      return view;
    case CV_8UC4:
      view.format = intaglio::PixelFormat::kBgra;
      return view;
    default:
      throw std::runtime_error("a matrix of another type than bytes");
  }
}

int run(int argc, char** argv) {
  const intaglio::Model model = intaglio::Model::load(argv[1]);
  intaglio::Session session(model);
  intaglio::Preprocessor preprocessor(model.preprocessing());
  intaglio::Image pixels(static_cast<int>(model.width()), static_cast<int>(model.height()));

  for (int i = 2; i < argc; ++i) {
    const cv::Mat mat = cv::imread(argv[i], cv::IMREAD_UNCHANGED);
    preprocessor.run(view_of(mat), pixels.pixels);
    const auto logits = session.run(pixels);
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
    std::fprintf(stderr, "usage: opencv MODEL.intg IMAGE...\n");
    return 2;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "opencv: %s\n", e.what());
    return 1;
  }
}
