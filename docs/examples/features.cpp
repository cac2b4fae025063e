// A Swin as the backbone of a detector: the outputs of its stages for an image of 800 x 1216.
//
//   features MODEL.intg [IMAGE [HEIGHT WIDTH]]
//
// Without an image, a gradient stands in. Prints the shape, grid and range of each feature, how
// long an inference takes, and what memory the process has used.
#include <intaglio/decode_image.h>
#include <intaglio/intaglio.h>
#include <intaglio/resize.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

namespace {

intaglio::Image gradient(int height, int width) {
  intaglio::Image image(width, height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      std::uint8_t* pixel = image.row(y) + 3 * static_cast<std::ptrdiff_t>(x);
      pixel[0] = static_cast<std::uint8_t>(255 * y / height);
      pixel[1] = static_cast<std::uint8_t>(255 * x / width);
      pixel[2] = static_cast<std::uint8_t>((x + y) / 2);
    }
  }
  return image;
}

/// Milliseconds of the fastest of a few inferences.
double time_features(intaglio::Session& session, intaglio::ImageView image) {
  using Clock = std::chrono::steady_clock;
  double fastest = 0;
  for (int i = 0; i < 5; ++i) {
    const auto start = Clock::now();
    session.features(image);
    const double ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    fastest = i == 0 ? ms : std::min(fastest, ms);
  }
  return fastest;
}

void print_feature(const intaglio::FeatureMap& f) {
  // A copy in floats, channels first, as a feature pyramid takes it.
  std::vector<float> floats(f.height * f.width * f.channels);
  intaglio::to_float(f, intaglio::FeatureLayout::kNchw, floats);
  const auto [low, high] = std::minmax_element(floats.begin(), floats.end());
  std::printf("%-12s %s [%zu, %zu, %zu]  scale %.4g, zero point %d  %.3f to %.3f\n", f.name.c_str(),
              f.codes_s16 != nullptr ? "s16" : "u8 ", f.height, f.width, f.channels, f.scale,
              f.zero_point, double{*low}, double{*high});
}

int run(int argc, char** argv) {
  const int height = argc > 4 ? std::stoi(argv[3]) : 800;
  const int width = argc > 4 ? std::stoi(argv[4]) : 1216;
  const intaglio::Image image = argc > 2
                                    ? intaglio::resize(intaglio::load_image(argv[2]), width, height,
                                                       intaglio::Interpolation::kBilinear)
                                    : gradient(height, width);

  const intaglio::Model model = intaglio::Model::load(argv[1]);
  intaglio::Session session(model);
  for (const intaglio::FeatureMap& feature : session.features(image)) print_feature(feature);

  const double ms = time_features(session, image);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("%d x %d pixels: %.1f ms on one thread (%s), %.0f MB of memory at most\n", height,
              width, ms, intaglio::isa_name(model.isa()), double(usage.ru_maxrss) / 1024);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3 && argc != 5) {
    std::fprintf(stderr, "usage: features MODEL.intg [IMAGE [HEIGHT WIDTH]]\n");
    return 2;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {  // intaglio::Error says what is wrong, and where
    std::fprintf(stderr, "features: %s\n", e.what());
    return 1;
  }
}
