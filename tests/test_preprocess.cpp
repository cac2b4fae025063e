#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/decode_image.h"
#include "engine/preprocess.h"
#include "engine/resize.h"
#include "graph/error.h"
#include "graph/safetensors.h"
#include "tests/support/shared_data.h"

namespace intaglio {
namespace {

Image to_image(const TensorView& tensor) {
  REQUIRE(tensor.shape.size() == 3);
  Image image(static_cast<int>(tensor.shape[1]), static_cast<int>(tensor.shape[0]));
  image.pixels = tensor.to_vector<std::uint8_t>("image");
  return image;
}

Image random_image(int width, int height, std::mt19937& random) {
  Image image(width, height);
  // Extremes as often as anything else: they make sums overshoot.
  for (std::uint8_t& value : image.pixels) {
    const auto bits = static_cast<std::uint32_t>(random());
    value = static_cast<std::uint8_t>(bits & 0x100 ? bits : bits & 0x200 ? 255 : 0);
  }
  return image;
}

Interpolation to_filter(const std::string& name) {
  return name == "bicubic" ? Interpolation::kBicubic : Interpolation::kBilinear;
}

Preprocessing make_preprocessing(int resize, int height, int width, Interpolation filter) {
  Preprocessing preprocessing;
  preprocessing.resize = resize;
  preprocessing.height = height;
  preprocessing.width = width;
  preprocessing.interpolation = filter;
  return preprocessing;
}

/// The filters as functions on the real line, in forms other than the library's.
double filter_real(Interpolation filter, double x) {
  const double d = std::abs(x);
  if (filter == Interpolation::kBilinear) return std::max(0.0, 1.0 - d);
  if (d >= 2.0) return 0.0;
  return d < 1.0 ? 1.0 - 2.5 * std::pow(d, 2) + 1.5 * std::pow(d, 3)
                 : 2.0 - 4.0 * d + 2.5 * std::pow(d, 2) - 0.5 * std::pow(d, 3);
}

/// A line resized by weighting all its pixels for every output: no windows, no integers.
std::vector<double> resize_line_real(const std::vector<double>& src, int size,
                                     Interpolation filter) {
  const double scale = static_cast<double>(src.size()) / size;
  const double stretch = std::max(scale, 1.0);
  std::vector<double> dst(size);
  for (int i = 0; i < size; ++i) {
    double sum = 0.0, weights = 0.0;
    for (std::size_t j = 0; j < src.size(); ++j) {
      const double distance = (static_cast<double>(j) + 0.5) - (i + 0.5) * scale;
      const double weight = filter_real(filter, distance / stretch);
      sum += weight * src[j];
      weights += weight;
    }
    dst[i] = std::clamp(sum / weights, 0.0, 255.0);
  }
  return dst;
}

/// All of a channel through resize_line_real, columns then rows, without rounding between.
std::vector<double> resize_channel_real(const Image& src, int channel, int width, int height,
                                        Interpolation filter) {
  std::vector<std::vector<double>> rows(src.height);
  for (int y = 0; y < src.height; ++y) {
    std::vector<double> row(src.width);
    for (int x = 0; x < src.width; ++x) {
      row[x] = src.pixels[(static_cast<std::size_t>(y) * src.width + x) * 3 + channel];
    }
    rows[y] = resize_line_real(row, width, filter);
  }
  std::vector<double> result(static_cast<std::size_t>(width) * height);
  for (int x = 0; x < width; ++x) {
    std::vector<double> column(src.height);
    for (int y = 0; y < src.height; ++y) column[y] = rows[y][x];
    const std::vector<double> resized = resize_line_real(column, height, filter);
    for (int y = 0; y < height; ++y) result[static_cast<std::size_t>(y) * width + x] = resized[y];
  }
  return result;
}

/// resize and crop in the plainest way: resize the whole image, pad, cut.
Image preprocess_plainly(const Image& src, const Preprocessing& p) {
  const double ratio_long = static_cast<double>(std::max(src.width, src.height));
  const int shorter = std::min(src.width, src.height);
  const int longer = static_cast<int>(p.resize * ratio_long / shorter);
  const bool wide = src.width > src.height;
  const Image resized =
      resize(src, wide ? longer : p.resize, wide ? p.resize : longer, p.interpolation);
  const auto offset = [](int size, int crop) {
    return size < crop ? -((crop - size) / 2)
                       : static_cast<int>(std::nearbyint((size - crop) / 2.0));
  };
  const int left = offset(resized.width, p.width);
  const int top = offset(resized.height, p.height);
  Image result(p.width, p.height);
  for (int y = 0; y < p.height; ++y) {
    for (int x = 0; x < p.width; ++x) {
      if (y + top < 0 || y + top >= resized.height) continue;
      if (x + left < 0 || x + left >= resized.width) continue;
      const std::uint8_t* src_pixel = ImageView(resized).row(y + top) + 3 * (x + left);
      std::copy_n(src_pixel, 3, result.row(y) + 3 * x);
    }
  }
  return result;
}

TEST_CASE("resize and crop equal Pillow's on drawn images", "[preprocess]") {
  const auto path = test::shared_path("golden/preprocess/cases.safetensors");
  if (!path) return;
  const Safetensors file = Safetensors::open(*path);
  const auto cases = nlohmann::json::parse(file.metadata().at("cases"));
  REQUIRE(cases.size() > 100);
  for (const auto& golden : cases) {
    const std::string name = golden.at("name");
    INFO(name);
    const Image src = to_image(file.at(golden.at("src").get<std::string>()));
    const Image expected = to_image(file.at(name));
    const Interpolation filter = to_filter(golden.at("filter"));
    Image found;
    if (golden.at("op") == "resize") {
      found = resize(src, golden.at("width"), golden.at("height"), filter);
    } else {
      REQUIRE(golden.at("op") == "resize_shorter_then_center_crop");
      const int crop = golden.at("crop");
      found = preprocess(src, make_preprocessing(golden.at("resize"), crop, crop, filter));
    }
    CHECK((found.width == expected.width && found.height == expected.height));
    CHECK((found.pixels == expected.pixels));
  }
}

TEST_CASE("photos decoded, resized and cropped equal Pillow's", "[preprocess]") {
  const auto crops_path = test::shared_path("golden/deit_tiny/crops.safetensors");
  const auto images = test::shared_path("images");
  if (!crops_path || !images) return;
  const Safetensors crops = Safetensors::open(*crops_path);
  REQUIRE(crops.tensors().size() == 16);
  Preprocessor preprocessor(make_preprocessing(256, 224, 224, Interpolation::kBicubic));
  std::vector<std::uint8_t> found(preprocessor.size());
  DecodeLimits as_stored;
  as_stored.apply_orientation = false;
  for (const auto& [name, expected] : crops.tensors()) {
    INFO(name);
    preprocessor.run(load_image(*images / name, as_stored), found);
    CHECK((found == expected.to_vector<std::uint8_t>(name)));
  }
}

TEST_CASE("resizing is within one step of a computation in reals", "[preprocess]") {
  const auto seed = static_cast<std::uint32_t>(std::random_device{}());
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto side = [&] { return 1 + static_cast<int>(random() % (random() % 4 ? 24 : 90)); };
  for (int i = 0; i < 200; ++i) {
    const Image src = random_image(side(), side(), random);
    const int width = side(), height = side();
    const Interpolation filter = i % 2 ? Interpolation::kBicubic : Interpolation::kBilinear;
    INFO(src.width << " x " << src.height << " to " << width << " x " << height << ", filter "
                   << i % 2);
    const Image found = resize(src, width, height, filter);
    double worst = 0.0;
    for (int channel = 0; channel < 3; ++channel) {
      const auto expected = resize_channel_real(src, channel, width, height, filter);
      for (std::size_t j = 0; j < expected.size(); ++j) {
        // The library rounds twice: half a step, widened by at most 1.3 (the weights' absolute
        // sum), and half a step. So it is less than two steps from the rounded real.
        worst = std::max(worst, std::abs(found.pixels[3 * j + channel] - std::round(expected[j])));
      }
    }
    CHECK(worst <= 1.0);
  }
}

TEST_CASE("a crop alone equals the crop of a whole resized image", "[preprocess]") {
  const auto seed = static_cast<std::uint32_t>(std::random_device{}());
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto side = [&](int max) { return 1 + static_cast<int>(random() % max); };
  for (int i = 0; i < 200; ++i) {
    const Image src = random_image(side(80), side(80), random);
    const auto filter = i % 2 ? Interpolation::kBicubic : Interpolation::kBilinear;
    const int shorter = std::min(src.width, src.height);
    const int size = i % 5 ? side(60) : shorter;  // sometimes the passes have nothing to do
    const Preprocessing p = make_preprocessing(size, side(70), side(70), filter);
    INFO(src.width << " x " << src.height << ", resize " << p.resize << ", crop " << p.width
                   << " x " << p.height);
    CHECK((preprocess(src, p).pixels == preprocess_plainly(src, p).pixels));
  }
}

TEST_CASE("weights sum to one and stay below two in absolute sum", "[preprocess]") {
  ResizeAxis axis;
  for (const auto filter : {Interpolation::kBicubic, Interpolation::kBilinear}) {
    for (int src = 1; src <= 40; ++src) {
      for (int full = 1; full <= 80; ++full) {
        compute_axis({src, full, 0, full, filter}, axis);
        bool fits = axis.source_first() >= 0 && axis.source_end() <= src;
        for (int i = 0; i < full; ++i) {
          std::int64_t sum = 0, absolute = 0;
          for (int t = 0; t < axis.taps; ++t) {
            const std::int64_t weight = axis.weights[static_cast<std::size_t>(i) * axis.taps + t];
            sum += weight;
            absolute += std::abs(weight);
          }
          fits = fits && std::abs(sum - (1 << kWeightBits)) <= axis.taps;
          fits = fits && absolute < (std::int64_t{2} << kWeightBits);
        }
        if (!fits) FAIL("axis " << src << " to " << full);
      }
    }
  }
}

TEST_CASE("a preprocessor may change sizes, and rows may have gaps", "[preprocess]") {
  std::mt19937 random(1);
  const Preprocessing p = make_preprocessing(20, 16, 18, Interpolation::kBicubic);
  Preprocessor preprocessor(p);
  std::vector<std::uint8_t> found(preprocessor.size());
  for (const auto& [width, height] : {std::pair{50, 30}, {30, 50}, {50, 30}, {20, 20}, {3, 90}}) {
    const Image src = random_image(width, height, random);
    std::vector<std::uint8_t> padded((src.stride() + 7) * height, 0xAA);
    for (int y = 0; y < height; ++y) {
      std::copy_n(ImageView(src).row(y), src.stride(), &padded[y * (src.stride() + 7)]);
    }
    preprocessor.run({padded.data(), width, height, src.stride() + 7}, found);
    CHECK((found == preprocess_plainly(src, p).pixels));
  }
}

/// The image in another format, rows apart, with what must not count in alpha and between rows.
std::vector<std::uint8_t> in_format(const Image& rgb, PixelFormat format, std::size_t stride,
                                    std::mt19937& random) {
  std::vector<std::uint8_t> bytes(stride * static_cast<std::size_t>(rgb.height));
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  const std::size_t size = pixel_bytes(format);
  const bool swapped = format == PixelFormat::kBgr || format == PixelFormat::kBgra;
  for (int y = 0; y < rgb.height; ++y) {
    for (int x = 0; x < rgb.width; ++x) {
      const std::uint8_t* src = ImageView(rgb).row(y) + 3 * x;
      std::uint8_t* dst = &bytes[stride * static_cast<std::size_t>(y) + size * x];
      for (std::size_t c = 0; c < std::min<std::size_t>(3, size); ++c) {
        dst[c] = src[swapped ? 2 - c : c];
      }
    }
  }
  return bytes;
}

TEST_CASE("any pixel format gives what its copy in RGB gives", "[preprocess]") {
  std::mt19937 random(3);
  const Preprocessing p = make_preprocessing(20, 16, 18, Interpolation::kBicubic);
  Preprocessor preprocessor(p);
  std::vector<std::uint8_t> found(preprocessor.size());
  // Shrunk, grown, both passes with nothing to do, padded.
  for (const auto& [width, height] : {std::pair{50, 30}, {7, 9}, {20, 20}, {20, 3}, {3, 90}}) {
    Image rgb = random_image(width, height, random);
    for (const PixelFormat format : {PixelFormat::kRgb, PixelFormat::kBgr, PixelFormat::kRgba,
                                     PixelFormat::kBgra, PixelFormat::kGrey}) {
      INFO(width << " x " << height << ", format " << static_cast<int>(format));
      if (format == PixelFormat::kGrey) {  // the last
        for (std::size_t i = 0; i < rgb.pixels.size(); ++i) rgb.pixels[i] = rgb.pixels[i / 3 * 3];
      }
      for (const std::size_t gap : {0, 5}) {
        const std::size_t stride = pixel_bytes(format) * static_cast<std::size_t>(width) + gap;
        const auto bytes = in_format(rgb, format, stride, random);
        const ImageView view = {bytes.data(), width, height, stride, format};
        preprocessor.run(view, found);
        CHECK((found == preprocess_plainly(rgb, p).pixels));
        CHECK((resize(view, width, height, Interpolation::kBilinear).pixels == rgb.pixels));
      }
    }
  }
}

TEST_CASE("strips of extreme proportions cost little", "[preprocess]") {
  std::mt19937 random(2);
  const Preprocessing p = make_preprocessing(8192, 224, 224, Interpolation::kBicubic);
  for (const bool wide : {true, false}) {
    const Image strip = random_image(wide ? 65535 : 1, wide ? 1 : 65535, random);
    CHECK(preprocess(strip, p).pixels.size() == 224u * 224u * 3u);
  }
}

TEST_CASE("preprocessing refuses impossible sizes", "[preprocess]") {
  const auto code_of = [](auto&& call) {
    try {
      call();
    } catch (const Error& error) {
      return static_cast<int>(error.code());
    }
    return -1;
  };
  const int invalid = static_cast<int>(ErrorCode::kInvalidArgument);
  const Preprocessing good = make_preprocessing(8, 8, 8, Interpolation::kBilinear);
  CHECK(code_of([&] { preprocess(Image(4, 4), good); }) == -1);
  CHECK(code_of([&] { preprocess(Image(0, 4), good); }) == invalid);
  CHECK(code_of([&] { preprocess(ImageView{nullptr, 65536, 1, 3 * 65536}, good); }) == invalid);
  CHECK(code_of([&] { resize(Image(4, 4), 0, 4, Interpolation::kBicubic); }) == invalid);
  const Image image(4, 4);
  ImageView view = image;
  view.stride = 11;
  CHECK(code_of([&] { preprocess(view, good); }) == invalid);
  CHECK(code_of([&] { resize(view, 4, 4, Interpolation::kBicubic); }) == invalid);
  view.stride = SIZE_MAX / 2;
  CHECK(code_of([&] { preprocess(view, good); }) == invalid);
  view = image;
  view.format = PixelFormat::kRgba;
  CHECK(code_of([&] { preprocess(view, good); }) == invalid);
  view.format = static_cast<PixelFormat>(5);
  CHECK(code_of([&] { preprocess(view, good); }) == invalid);
  CHECK(code_of([&] { preprocess(ImageView{nullptr, 4, 4, 12}, good); }) == invalid);
  for (const int resize : {0, -1, 8193}) {
    Preprocessing bad = good;
    bad.resize = resize;
    CHECK(code_of([&] { preprocess(Image(4, 4), bad); }) == invalid);
  }
  std::vector<std::uint8_t> too_small(8 * 8 * 3 - 1);
  CHECK(code_of([&] { Preprocessor(good).run(Image(4, 4), too_small); }) == invalid);
}

}  // namespace
}  // namespace intaglio
