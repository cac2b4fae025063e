#include "converters/presets.h"

#include <cassert>
#include <cmath>

#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {
namespace {

constexpr std::array<double, 3> kImageNetMean{0.485, 0.456, 0.406};
constexpr std::array<double, 3> kImageNetStd{0.229, 0.224, 0.225};
constexpr std::array<double, 3> kHalf{0.5, 0.5, 0.5};

struct Preset {
  const char* name;
  const std::array<double, 3>& mean;
  const std::array<double, 3>& std;
  double crop_pct;
  const char* interpolation;
};

// `deit`, `vit` and `swin` are what FQ-ViT evaluates these families with. `imagenet` is
// torchvision's.
constexpr Preset kPresets[] = {
    {"deit", kImageNetMean, kImageNetStd, 0.875, "bicubic"},
    {"vit", kHalf, kHalf, 0.9, "bicubic"},
    {"vit-augreg", kHalf, kHalf, 0.9, "bicubic"},
    {"swin", kImageNetMean, kImageNetStd, 0.9, "bicubic"},
    {"imagenet", kImageNetMean, kImageNetStd, 0.875, "bilinear"},
};
constexpr std::size_t kUncroppedFrom = 384;

// The quotient of two integers may come out a rounding below the integer that it is.
constexpr double kRoundingSlack = 1 + 1e-12;

/// Picks fields, and remembers who said what.
class Chooser {
 public:
  Chooser(const std::vector<PartialPreprocessing>& sources, const std::string& file)
      : sources_(sources), file_(file), fields_(sources.size()) {}

  template <typename Field>
  const PartialPreprocessing& first(const char* field, Field has) {
    std::size_t i = 0;
    while (i < sources_.size() && !has(sources_[i])) ++i;
    assert(i < sources_.size());
    fields_[i] += (fields_[i].empty() ? "" : ", ") + std::string(field);
    return sources_[i];
  }
  [[noreturn]] void fail(ErrorCode code, const PartialPreprocessing& source,
                         const std::string& what) const {
    throw Error(code, file_ + ": " + source.source + ": " + what);
  }
  std::string summary() const {
    std::string text;
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      if (fields_[i].empty()) continue;
      text += (text.empty() ? "" : ", ") + sources_[i].source + " (" + fields_[i] + ")";
    }
    return text;
  }

 private:
  const std::vector<PartialPreprocessing>& sources_;
  const std::string& file_;
  std::vector<std::string> fields_;
};

Interpolation interpolation_of(const Chooser& chooser, const PartialPreprocessing& source) {
  if (source.interpolation == "bicubic") return Interpolation::kBicubic;
  if (source.interpolation == "bilinear") return Interpolation::kBilinear;
  chooser.fail(
      ErrorCode::kUnsupported, source,
      "expected interpolation bilinear or bicubic, found " + printable(source.interpolation));
}

}  // namespace

PartialPreprocessing preprocessing_preset(const std::string& name, std::size_t longer_side) {
  std::string known;
  for (const Preset& p : kPresets) {
    if (name == p.name) {
      return {"preset " + name, p.mean, p.std, longer_side >= kUncroppedFrom ? 1 : p.crop_pct,
              p.interpolation};
    }
    known += (known.empty() ? "" : ", ") + std::string(p.name);
  }
  throw Error(ErrorCode::kInvalidArgument,
              "preset: expected one of " + known + ", found " + printable(name));
}

ChosenPreprocessing choose_preprocessing(const std::vector<PartialPreprocessing>& sources,
                                         ImageSize image_size, const std::string& file) {
  Chooser chooser(sources, file);
  Preprocessing p;
  const auto& mean = chooser.first("mean", [](const auto& s) { return s.mean.has_value(); });
  const auto& std = chooser.first("std", [](const auto& s) { return s.std.has_value(); });
  const auto& filter =
      chooser.first("interpolation", [](const auto& s) { return !s.interpolation.empty(); });
  const auto& crop = chooser.first("crop", [](const auto& s) { return s.crop_pct.has_value(); });
  p.mean = *mean.mean;
  p.std = *std.std;
  for (std::size_t c = 0; c < 3; ++c) {
    // Far beyond any real normalization, and far from where float32 ends.
    if (!(std::abs(p.mean[c]) <= 1024)) {
      chooser.fail(ErrorCode::kFormat, mean, "expected a mean in [-1024, 1024]");
    }
    if (!(p.std[c] >= 1.0 / 1024 && p.std[c] <= 1024)) {
      chooser.fail(ErrorCode::kFormat, std, "expected a std in [1/1024, 1024]");
    }
  }
  p.interpolation = interpolation_of(chooser, filter);
  if (!(*crop.crop_pct >= 0.5 && *crop.crop_pct <= 1)) {
    chooser.fail(
        ErrorCode::kFormat, crop,
        "expected a crop in [0.5, 1] of the resized side, found " + std::to_string(*crop.crop_pct));
  }
  p.height = static_cast<int>(image_size.height);
  p.width = static_cast<int>(image_size.width);
  // Upright photos are to fill a wide crop too.
  p.resize = static_cast<int>(
      std::floor(static_cast<double>(image_size.longer()) / *crop.crop_pct * kRoundingSlack));
  return {p, chooser.summary()};
}

}  // namespace intaglio
