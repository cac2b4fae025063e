#include "converters/checkpoint_config.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>

#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {
namespace {

using Json = nlohmann::json;

constexpr std::uintmax_t kMaxConfigBytes = std::uintmax_t{16} << 20;
constexpr int kMaxDepth = 16;
constexpr std::size_t kMaxSize = std::size_t{1} << 20;
constexpr std::size_t kMaxText = 100;

/// Parses hostile text; null unless it is JSON of little depth.
std::optional<Json> parse_json(const std::string& text) {
  bool deep = false;
  // Deeper parts are dropped as they come, so none of them is ever nested.
  const auto shallow = [&deep](int depth, Json::parse_event_t, Json&) {
    deep = deep || depth > kMaxDepth;
    return depth <= kMaxDepth;
  };
  Json json = Json::parse(text, shallow, false);
  if (json.is_discarded() || deep) return std::nullopt;
  return json;
}

/// A JSON object with the name of where it comes from; reads optional, typed keys.
class Section {
 public:
  Section(const Json& json, std::string where, std::string prefix = "")
      : json_(json), where_(std::move(where)), prefix_(std::move(prefix)) {}

  [[noreturn]] void fail(const std::string& key, const std::string& expected,
                         ErrorCode code = ErrorCode::kFormat) const {
    const std::string found = text_of(key);
    throw Error(code, name(key) + ": expected " + expected + ", found " + found);
  }
  std::string name(const std::string& key) const { return where_ + ": '" + prefix_ + key + "'"; }
  const std::string& where() const { return where_; }
  /// Null when absent or JSON's null.
  const Json* find(const std::string& key) const {
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  /// An object under a key.
  std::optional<Section> section(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_object()) fail(key, "an object");
    return Section(*value, where_, prefix_ + key + ".");
  }
  std::string text(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) return {};
    if (!value->is_string()) fail(key, "a string");
    return value->get<std::string>();
  }
  std::optional<bool> flag(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) fail(key, "true or false");
    return value->get<bool>();
  }
  std::optional<double> real(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number() || !std::isfinite(value->get<double>())) fail(key, "a number");
    return value->get<double>();
  }
  std::optional<std::array<double, 3>> triple(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    std::array<double, 3> numbers{};
    if (!value->is_array() || value->size() != 3) fail(key, "three numbers");
    for (std::size_t i = 0; i < 3; ++i) {
      if (!(*value)[i].is_number()) fail(key, "three numbers");
      numbers[i] = (*value)[i].get<double>();
    }
    return numbers;
  }
  /// A positive integer, or a list of equal ones (the sides of a square).
  std::optional<std::size_t> size(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_array()) return positive(key, *value);
    if (value->empty()) fail(key, "a positive integer");
    for (const Json& side : *value) {
      if (positive(key, side) != positive(key, value->front())) fail(key, "equal sides");
    }
    return positive(key, value->front());
  }
  /// A list of positive integers; empty when absent.
  std::vector<std::size_t> sizes(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) return {};
    if (!value->is_array() || value->empty()) fail(key, "a list of positive integers");
    std::vector<std::size_t> sizes;
    for (const Json& size : *value) sizes.push_back(positive(key, size));
    return sizes;
  }

 private:
  std::size_t positive(const std::string& key, const Json& value) const {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() == 0 ||
        value.get<std::uint64_t>() > kMaxSize) {
      fail(key, "a positive integer up to 2^20");
    }
    return value.get<std::size_t>();
  }
  std::string text_of(const std::string& key) const {
    std::string text = json_.at(key).dump(-1, ' ', true, Json::error_handler_t::replace);
    if (text.size() > kMaxText) text = text.substr(0, kMaxText) + "...";
    return text;
  }

  const Json& json_;
  std::string where_;
  std::string prefix_;
};

/// The object in a file, or nothing where `required` is not set and there is no such file.
std::optional<Json> read_object(const std::filesystem::path& path, bool required) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    if (!required) return std::nullopt;
    throw Error(ErrorCode::kIo, path.string() + ": cannot read the config");
  }
  if (const auto bytes = std::filesystem::file_size(path, error);
      error || bytes > kMaxConfigBytes) {
    throw Error(ErrorCode::kLimit, path.string() + ": expected a config of at most 16 MiB");
  }
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw Error(ErrorCode::kIo, path.string() + ": cannot read the config");
  std::optional<Json> json = parse_json(text);
  if (!json || !json->is_object()) {
    throw Error(ErrorCode::kFormat, path.string() + ": expected a JSON object of depth up to " +
                                        std::to_string(kMaxDepth) + ", found something else");
  }
  return json;
}

/// Keys of sizes, and what they mean in a family; of a Swin, some are lists with a size per stage.
struct SizeKey {
  const char* key;
  ModelSize size;
};
constexpr SizeKey kCommonKeys[] = {
    {"image_size", ModelSize::kImage},    {"img_size", ModelSize::kImage},
    {"patch_size", ModelSize::kPatch},    {"embed_dim", ModelSize::kDim},
    {"num_classes", ModelSize::kClasses}, {"num_labels", ModelSize::kClasses},
};
constexpr SizeKey kVitKeys[] = {
    {"hidden_size", ModelSize::kDim},           {"num_features", ModelSize::kDim},
    {"num_hidden_layers", ModelSize::kDepth},   {"depth", ModelSize::kDepth},
    {"num_attention_heads", ModelSize::kHeads}, {"num_heads", ModelSize::kHeads},
    {"intermediate_size", ModelSize::kHidden},
};
constexpr SizeKey kSwinKeys[] = {
    {"hidden_size", ModelSize::kLastDim},
    {"num_features", ModelSize::kLastDim},
    {"window_size", ModelSize::kWindow},
    {"num_layers", ModelSize::kStages},
};
constexpr SizeKey kSwinLists[] = {{"depths", ModelSize::kDepth}, {"num_heads", ModelSize::kHeads}};

/// A config of one family, from one or several files.
class ConfigReader {
 public:
  explicit ConfigReader(ModelFamily family) : swin_(family == ModelFamily::kSwin) {}

  CheckpointConfig config;

  void add_sizes(const Section& section) {
    add_sizes(section, kCommonKeys);
    if (swin_) {
      add_sizes(section, kSwinKeys);
      add_lists(section);
    } else {
      add_sizes(section, kVitKeys);
    }
    if (const Json* labels = section.find("id2label"); labels != nullptr && labels->is_object()) {
      config.sizes.push_back({ModelSize::kClasses, labels->size(), section.name("id2label")});
    }
  }
  /// Settings that make of a model another function.
  void refuse_variants(const Section& section) const {
    for (const char* key : {"hidden_act", "act_layer"}) {
      const std::string activation = section.text(key);
      if (!activation.empty() && activation != "gelu") {
        section.fail(key, "gelu", ErrorCode::kUnsupported);
      }
    }
    const std::string pool = section.text("global_pool");
    const std::string usual = swin_ ? "avg" : "token";
    if (!pool.empty() && pool != usual) {
      section.fail("global_pool", usual, ErrorCode::kUnsupported);
    }
    if (section.text("architecture").find("quickgelu") != std::string::npos) {
      section.fail("architecture", "a model with GELU", ErrorCode::kUnsupported);
    }
  }

  void add_config(const Section& section);
  void add_preprocessor(const Section& section);
  void add_timm_preprocessing(const Section& section, const std::string& source);

 private:
  void add_sizes(const Section& section, std::span<const SizeKey> keys) {
    for (const auto& [key, size] : keys) {
      const Json* value = section.find(key);
      if (swin_ && size == ModelSize::kClasses && value != nullptr && *value == 0) continue;
      if (const auto value = section.size(key)) {
        config.sizes.push_back({size, *value, section.name(key)});
      }
    }
  }
  void add_lists(const Section& section) {
    for (const auto& [key, size] : kSwinLists) {
      const std::vector<std::size_t> values = section.sizes(key);
      if (values.empty()) continue;
      config.sizes.push_back({ModelSize::kStages, values.size(), section.name(key) + " (length)"});
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::string where = section.name(std::string(key) + "[" + std::to_string(i) + "]");
        config.sizes.push_back({size, values[i], where, i});
      }
    }
  }
  void add_input_size(const Section& section);

  bool swin_;
};

void ConfigReader::add_timm_preprocessing(const Section& section, const std::string& source) {
  config.preprocessing.push_back({source, section.triple("mean"), section.triple("std"),
                                  section.real("crop_pct"), section.text("interpolation")});
  const std::string mode = section.text("crop_mode");
  if (!mode.empty() && mode != "center") {
    config.notes.push_back(section.name("crop_mode") + " is " + printable(mode) +
                           "; images are cropped at the centre");
  }
}

/// timm's [channels, height, width].
void ConfigReader::add_input_size(const Section& section) {
  const Json* size = section.find("input_size");
  if (size == nullptr) return;
  if (!size->is_array() || size->size() != 3 || !(*size)[1].is_number_unsigned() ||
      (*size)[1] != (*size)[2] || (*size)[1] == 0) {
    section.fail("input_size", "channels, height and width of a square");
  }
  config.sizes.push_back(
      {ModelSize::kImage, (*size)[1].get<std::size_t>(), section.name("input_size")});
}

void ConfigReader::add_config(const Section& section) {
  add_sizes(section);
  refuse_variants(section);
  if (const auto epsilon = section.real("layer_norm_eps")) {
    if (!(*epsilon >= 1e-30 && *epsilon <= 1)) {
      section.fail("layer_norm_eps", "a number in [1e-30, 1]");
    }
    config.norm_epsilon = epsilon;
  }
  if (const auto arguments = section.section("model_args")) {
    add_sizes(*arguments);
    refuse_variants(*arguments);
  }
  // Older files of timm have the fields of pretrained_cfg at the top.
  const Section pretrained = section.section("pretrained_cfg").value_or(section);
  add_timm_preprocessing(pretrained, "config.json");
  add_input_size(pretrained);
  config.architecture = section.text("architecture");
  if (config.architecture.size() > kMaxText) section.fail("architecture", "a short name");
}

/// transformers: a size is a number, {"height", "width"} or {"shortest_edge"}.
struct ToldSize {
  std::size_t side = 0;
  bool stretched = false;  // to a square, whatever the image's shape
};

std::optional<ToldSize> told_size(const Section& section, const std::string& key) {
  const Json* value = section.find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) return ToldSize{*section.size(key), true};
  const Section size = *section.section(key);
  if (const auto edge = size.size("shortest_edge")) return ToldSize{*edge, false};
  const auto height = size.size("height");
  if (!height || height != size.size("width")) section.fail(key, "a square");
  return ToldSize{*height, true};
}

std::string filter_name(const Section& section) {
  constexpr const char* kPillow[] = {"nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"};
  const Json* value = section.find("resample");
  if (value == nullptr) return {};
  if (!value->is_number_unsigned() || value->get<std::uint64_t>() >= std::size(kPillow)) {
    section.fail("resample", "a filter of Pillow, 0 to 5");
  }
  return kPillow[value->get<std::size_t>()];
}

void ConfigReader::add_preprocessor(const Section& section) {
  PartialPreprocessing p{"preprocessor_config.json",
                         section.triple("image_mean"),
                         section.triple("image_std"),
                         {},
                         filter_name(section)};
  if (section.flag("do_rescale") == false || section.flag("do_resize") == false) {
    throw Error(ErrorCode::kUnsupported,
                section.where() + ": images that are not resized and rescaled cannot be imported");
  }
  if (const auto factor = section.real("rescale_factor");
      factor && std::abs(*factor * 255 - 1) > 1e-6) {
    section.fail("rescale_factor", "1/255", ErrorCode::kUnsupported);
  }
  if (section.flag("do_normalize") == false) p.mean = {0, 0, 0}, p.std = {1, 1, 1};
  const auto size = told_size(section, "size");
  const auto crop = told_size(section, "crop_size");
  const bool cropped = crop && section.flag("do_center_crop").value_or(true);
  if (size) {
    const std::size_t side = cropped ? crop->side : size->side;
    p.crop_pct = static_cast<double>(side) / static_cast<double>(size->side);
    config.sizes.push_back({ModelSize::kImage, side, section.name(cropped ? "crop_size" : "size")});
    if (size->stretched) {
      config.notes.push_back(section.name("size") +
                             " stretches images to a square; here their shape is kept and the "
                             "centre is cut out");
    }
  }
  config.preprocessing.push_back(std::move(p));
}

/// Metadata of the same names as in a config, each a text, as calibrated checkpoints have them.
Json metadata_object(const Checkpoint& checkpoint) {
  Json object = Json::object();
  for (const auto& [key, text] : checkpoint.metadata()) {
    if (key == "interpolation") object[key] = text;
    const bool json = key == "mean" || key == "std" || key == "crop_pct" || key == "img_size" ||
                      (key == "config" && text.starts_with('{'));
    if (!json) continue;
    std::optional<Json> value = parse_json(text);
    if (!value) {
      throw Error(ErrorCode::kFormat, checkpoint.name() + ": metadata '" + key +
                                          "': expected JSON, found " + printable(text));
    }
    object[key] = std::move(*value);
  }
  return object;
}

}  // namespace

CheckpointConfig read_checkpoint_config(const Checkpoint& checkpoint,
                                        const std::filesystem::path& config, ModelFamily family) {
  const std::filesystem::path beside =
      config.empty() ? std::filesystem::path(checkpoint.name()).replace_filename("config.json")
                     : config;
  const std::filesystem::path preprocessor =
      std::filesystem::path(beside).replace_filename("preprocessor_config.json");
  ConfigReader reader(family);
  if (const auto json = read_object(preprocessor, false)) {
    reader.add_preprocessor(Section(*json, preprocessor.string()));
  }
  if (const auto json = read_object(beside, !config.empty())) {
    reader.add_config(Section(*json, beside.string()));
  }
  const Json metadata = metadata_object(checkpoint);
  const Section section(metadata, checkpoint.name() + ": metadata");
  reader.add_sizes(section);
  if (const auto nested = section.section("config")) {
    reader.add_sizes(*nested);
    reader.refuse_variants(*nested);
  }
  reader.add_timm_preprocessing(section, "metadata");
  return std::move(reader.config);
}

}  // namespace intaglio
