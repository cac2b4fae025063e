#include "converters/float_importer.h"

#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {

void FloatImporter::fail(ErrorCode code, const std::string& what) const {
  throw Error(code, checkpoint_.name() + ": " + what);
}

void FloatImporter::fail_shape(const std::string& tensor, const std::string& expected) const {
  fail(ErrorCode::kFormat, "tensor '" + tensor + "': expected " + expected + ", found " +
                               describe_shape(checkpoint_.shapes().at(tensor)));
}

const FloatImporter::Shape& FloatImporter::shape(const std::string& tensor) const {
  const auto it = checkpoint_.shapes().find(tensor);
  if (it == checkpoint_.shapes().end()) {
    fail(ErrorCode::kFormat, "tensor '" + tensor + "' is missing");
  }
  return it->second;
}

void FloatImporter::fail_claim(const SizeClaim& claim,
                               const std::pair<std::size_t, std::string>& found) const {
  throw Error(ErrorCode::kFormat, claim.where + " is " + std::to_string(claim.value) + ", but '" +
                                      found.second + "' of " + checkpoint_.name() + " says " +
                                      std::to_string(found.first));
}

const SizeClaim* FloatImporter::agreed_claim(ModelSize size) const {
  const SizeClaim* claim = nullptr;
  for (const SizeClaim& c : config_.sizes) {
    if (c.size != size) continue;
    if (claim == nullptr) claim = &c;
    if (c.value != claim->value) {
      throw Error(ErrorCode::kFormat, claim->where + " is " + std::to_string(claim->value) +
                                          ", but " + c.where + " is " + std::to_string(c.value));
    }
  }
  return claim;
}

Preprocessing FloatImporter::choose_preprocessing(ImageSize image_size,
                                                  const PartialPreprocessing& usual) {
  std::string filter;
  if (options_.interpolation) {
    filter = *options_.interpolation == Interpolation::kBicubic ? "bicubic" : "bilinear";
  }
  std::vector<PartialPreprocessing> sources{
      {"options", options_.mean, options_.std, options_.crop_pct, filter}};
  if (!options_.preset.empty()) {
    sources.push_back(preprocessing_preset(options_.preset, image_size.longer()));
  } else {
    sources.insert(sources.end(), config_.preprocessing.begin(), config_.preprocessing.end());
    sources.push_back(usual);
  }
  ChosenPreprocessing chosen =
      intaglio::choose_preprocessing(sources, image_size, checkpoint_.name());
  result_.preprocessing_source = std::move(chosen.source);
  return chosen.preprocessing;
}

std::string FloatImporter::file_name() const {
  return std::filesystem::path(checkpoint_.name()).filename().string();
}

std::vector<std::string> FloatImporter::model_names() const {
  std::string file = file_name();
  for (char& c : file) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return {config_.architecture, std::move(file)};
}

std::string FloatImporter::source() const {
  return printable(file_name()) + " (" + checkpoint_.container() + ", names of " + result_.scheme +
         ")";
}

}  // namespace intaglio
