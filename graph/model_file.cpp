#include "graph/model_file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "graph/check.h"
#include "graph/error.h"
#include "graph/fields.h"
#include "graph/json_value.h"

namespace intaglio {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kChecksumKey = "\"checksum\":\"";
constexpr std::size_t kChecksumDigits = 32;

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorCode::kFormat, message);
}

// --- checksum -----------------------------------------------------------------------------------

std::span<const std::byte> header_of(std::span<const std::byte> file) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  return file.subspan(sizeof length, length);
}

/// Where the digits of the checksum stand in the file; 0 unless they stand there exactly once.
std::size_t find_checksum(std::span<const std::byte> file) {
  const auto header = header_of(file);
  const std::string_view text(reinterpret_cast<const char*>(header.data()), header.size());
  const std::size_t at = text.find(kChecksumKey);
  if (at == text.npos || text.find(kChecksumKey, at + 1) != text.npos) return 0;
  const std::size_t digits = at + kChecksumKey.size();
  return digits + kChecksumDigits <= text.size() ? sizeof(std::uint64_t) + digits : 0;
}

/// XXH3-128 of the whole file with the checksum's own digits read as zeros, in lower-case hex.
std::string checksum(std::span<const std::byte> file, std::size_t digits_at) {
  static constexpr std::array<char, kChecksumDigits> kZeros = [] {
    std::array<char, kChecksumDigits> zeros{};
    zeros.fill('0');
    return zeros;
  }();
  const auto tail = file.subspan(digits_at + kChecksumDigits);
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  XXH3_128bits_update(&state, file.data(), digits_at);
  XXH3_128bits_update(&state, kZeros.data(), kZeros.size());
  XXH3_128bits_update(&state, tail.data(), tail.size());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
  std::string hex;
  for (const unsigned char byte : canonical.digest) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

void verify_checksum(const Safetensors& file) {
  const std::size_t at = find_checksum(file.bytes());
  if (at == 0) fail(file.name() + ": no checksum in the header");
  const std::string expected = checksum(file.bytes(), at);
  const std::string found(reinterpret_cast<const char*>(file.bytes().data()) + at, kChecksumDigits);
  if (found != expected) {
    throw Error(ErrorCode::kIntegrity, file.name() + ": damaged: the content has checksum " +
                                           expected + ", the header says otherwise");
  }
}

// --- writing ------------------------------------------------------------------------------------

const char* form_name(SoftmaxForm form) {
  return form == SoftmaxForm::kLogInt        ? "log_int"
         : form == SoftmaxForm::kRowRelative ? "row_relative"
                                             : "uniform";
}

/// Writes one operation: fields to JSON, constants to the container as "<op>.<field>".
class OpWriter {
 public:
  OpWriter(const Graph& graph, const Op& op, std::map<std::string, TensorView>& tensors)
      : graph_(graph), name_(op.name), tensors_(tensors) {
    json_["op"] = kind_name(op.params);
    json_["name"] = op.name;
    std::visit([&](const auto& params) { visit_fields(*this, params); }, op.params);
  }
  Json take() { return std::move(json_); }

  void input(const char* field, ValueId id) { json_[field] = graph_.values.at(id).name; }
  void optional_input(const char* field, const std::optional<ValueId>& id) {
    if (id) input(field, *id);
  }
  void output(const char* field, ValueId id) { input(field, id); }
  template <typename T>
  void constant(const char* field, const Constant<T>& constant) {
    const bool added = tensors_
                           .emplace(name_ + "." + field, TensorView{kDTypeOf<T>, constant.shape(),
                                                                    std::as_bytes(constant.view())})
                           .second;
    if (!added) fail("two operations are called '" + name_ + "'");
  }
  template <typename T>
  void optional_constant(const char* field, const Constant<T>& constant) {
    if (constant.size() != 0) this->constant(field, constant);
  }
  void integer(const char* field, std::int32_t number) { json_[field] = number; }
  void real(const char* field, double number) { json_[field] = number; }
  void form(const char* field, SoftmaxForm form) { json_[field] = form_name(form); }

 private:
  const Graph& graph_;
  const std::string& name_;
  std::map<std::string, TensorView>& tensors_;
  Json json_;
};

Json value_to_json(const Value& value) {
  Json json = {{"name", value.name},
               {"dtype", std::string(dtype_name(value.dtype))},
               {"shape", value.shape},
               {"scale", value.grid.scale},
               {"zero_point", value.grid.zero_point}};
  if (!value.grid.exponents.empty()) json["exponents"] = value.grid.exponents;
  return json;
}

Json preprocessing_to_json(const Preprocessing& p) {
  return {{"resize", p.resize},
          {"height", p.height},
          {"width", p.width},
          {"interpolation", p.interpolation == Interpolation::kBicubic ? "bicubic" : "bilinear"},
          {"mean", p.mean},
          {"std", p.std}};
}

/// Compact text; labels and provenance come from outside and may be no UTF-8.
std::string dump(const Json& json) {
  try {
    return json.dump();
  } catch (const Json::exception&) {
    fail("labels, names and provenance must be valid UTF-8");
  }
}

// --- reading ------------------------------------------------------------------------------------

/// Fields of one JSON object: every one must be asked for exactly once, none may be left over.
class Object {
 public:
  Object(const JsonValue& json, std::string where)
      : fields_(json.object()), where_(std::move(where)) {
    if (fields_ == nullptr) fail(where_ + ": expected a JSON object");
  }
  const JsonValue::Object& fields() const { return *fields_; }
  bool has(const char* field) const { return fields_->contains(field); }
  const JsonValue& get(const char* field) {
    const auto it = fields_->find(field);
    if (it == fields_->end()) fail(where_ + ": field '" + field + "' is missing");
    asked_.insert(field);
    return it->second;
  }
  const std::string& string(const char* field) {
    const std::string* text = get(field).string();
    if (text == nullptr) fail(where_ + ": field '" + field + "' must be a string");
    return *text;
  }
  double real(const char* field) {
    const std::optional<double> number = get(field).number();
    if (!number) fail(where_ + ": field '" + field + "' must be a number");
    return *number;
  }
  /// An integer in [low, high].
  std::int64_t integer(const char* field, std::int64_t low, std::int64_t high) {
    return integer(get(field), field, low, high);
  }
  template <typename T>
  std::vector<T> integers(const char* field, std::int64_t low, std::int64_t high) {
    const JsonValue::Array* array = get(field).array();
    if (array == nullptr) fail(where_ + ": field '" + field + "' must be an array");
    std::vector<T> numbers;
    for (const JsonValue& item : *array) {
      numbers.push_back(static_cast<T>(integer(item, field, low, high)));
    }
    return numbers;
  }
  void done() const {
    for (const auto& [key, value] : *fields_) {
      if (!asked_.contains(key)) fail(where_ + ": unknown field '" + key + "'");
    }
  }
  const std::string& where() const { return where_; }

 private:
  std::int64_t integer(const JsonValue& json, const char* field, std::int64_t low,
                       std::int64_t high) {
    const std::optional<std::int64_t> number = json.integer();
    if (!number || *number < low || *number > high) {
      fail(where_ + ": field '" + field + "' must be an integer in [" + std::to_string(low) + ", " +
           std::to_string(high) + "]");
    }
    return *number;
  }

  const JsonValue::Object* fields_;
  std::string where_;
  std::set<std::string> asked_;
};

using ValueIds = std::map<std::string, ValueId>;

class OpReader {
 public:
  OpReader(Object& object, std::string op_name, const ValueIds& ids, const Safetensors& file,
           std::set<std::string>& used)
      : object_(object), op_name_(std::move(op_name)), ids_(ids), file_(file), used_(used) {}

  void input(const char* field, ValueId& id) {
    const std::string value = object_.string(field);
    const auto it = ids_.find(value);
    if (it == ids_.end()) fail(object_.where() + ": no value is called '" + value + "'");
    id = it->second;
  }
  void optional_input(const char* field, std::optional<ValueId>& id) {
    if (object_.has(field)) input(field, id.emplace());
  }
  void output(const char* field, ValueId& id) { input(field, id); }
  template <typename T>
  void constant(const char* field, Constant<T>& constant) {
    const std::string name = op_name_ + "." + field;
    const TensorView& tensor = file_.at(name);
    if (tensor.dtype != kDTypeOf<T>) {
      fail(file_.name() + ": tensor '" + name + "': expected " +
           std::string(dtype_name(kDTypeOf<T>)) + ", found " + describe(tensor));
    }
    if (reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % alignof(T) != 0) {
      fail(file_.name() + ": tensor '" + name + "' is not aligned to its elements");
    }
    used_.insert(name);
    const std::span<const T> view(reinterpret_cast<const T*>(tensor.bytes.data()),
                                  tensor.elements());
    constant = Constant<T>(tensor.shape, view, file_.owner());
  }
  template <typename T>
  void optional_constant(const char* field, Constant<T>& constant) {
    if (file_.tensors().contains(op_name_ + "." + field)) this->constant(field, constant);
  }
  void integer(const char* field, std::int32_t& number) {
    number = static_cast<std::int32_t>(object_.integer(field, INT32_MIN, INT32_MAX));
  }
  void real(const char* field, double& number) { number = object_.real(field); }
  void form(const char* field, SoftmaxForm& form) {
    const std::string name = object_.string(field);
    for (const SoftmaxForm known :
         {SoftmaxForm::kLogInt, SoftmaxForm::kRowRelative, SoftmaxForm::kUniform}) {
      if (name == form_name(known)) return void(form = known);
    }
    fail(object_.where() + ": unknown softmax form '" + name + "'");
  }

 private:
  Object& object_;
  std::string op_name_;
  const ValueIds& ids_;
  const Safetensors& file_;
  std::set<std::string>& used_;
};

/// The alternative of OpParams called `kind`, default-made.
template <std::size_t I = 0>
OpParams make_params(const std::string& kind, const std::string& where) {
  if constexpr (I == std::variant_size_v<OpParams>) {
    fail(where + ": unknown operation '" + kind + "'");
  } else {
    const OpParams params(std::in_place_index<I>);
    return kind == kind_name(params) ? params : make_params<I + 1>(kind, where);
  }
}

Value value_from_json(const JsonValue& json, std::size_t index, const std::string& file) {
  Object object(json, file + ": value " + std::to_string(index));
  Value value;
  value.name = object.string("name");
  const std::string dtype = object.string("dtype");
  bool known = false;
  for (const DType candidate : {DType::kU8, DType::kS16, DType::kS32}) {
    if (dtype == dtype_name(candidate)) known = true, value.dtype = candidate;
  }
  if (!known) fail(object.where() + ": dtype '" + dtype + "' is no activation type");
  value.shape = object.integers<std::size_t>("shape", 1, INT32_MAX);
  value.grid.scale = object.real("scale");
  value.grid.zero_point =
      static_cast<std::int32_t>(object.integer("zero_point", INT32_MIN, INT32_MAX));
  if (object.has("exponents")) {
    value.grid.exponents = object.integers<std::uint8_t>("exponents", 0, 255);
  }
  object.done();
  return value;
}

std::array<double, 3> triple(Object& object, const char* field) {
  const JsonValue::Array* array = object.get(field).array();
  std::array<double, 3> numbers{};
  bool all = array != nullptr && array->size() == numbers.size();
  for (std::size_t i = 0; all && i < numbers.size(); ++i) {
    const std::optional<double> number = (*array)[i].number();
    numbers[i] = number.value_or(0);
    all = number.has_value();
  }
  if (!all) fail(object.where() + ": '" + field + "' needs 3 numbers");
  return numbers;
}

Preprocessing preprocessing_from_json(const JsonValue& json, const std::string& file) {
  Object object(json, file + ": preprocessing");
  Preprocessing p;
  p.resize = static_cast<int>(object.integer("resize", 1, 2 * std::int64_t{kMaxImageSide}));
  p.height = static_cast<int>(object.integer("height", 1, kMaxImageSide));
  p.width = static_cast<int>(object.integer("width", 1, kMaxImageSide));
  const std::string filter = object.string("interpolation");
  if (filter != "bicubic" && filter != "bilinear") {
    fail(object.where() + ": unknown interpolation '" + filter + "'");
  }
  p.interpolation = filter == "bicubic" ? Interpolation::kBicubic : Interpolation::kBilinear;
  p.mean = triple(object, "mean");
  p.std = triple(object, "std");
  object.done();
  return p;
}

const JsonValue::Array& expect_array(const JsonValue& json, const std::string& what) {
  if (json.array() == nullptr) fail(what + " must be an array");
  return *json.array();
}

void read_ops(const JsonValue& json, const ValueIds& ids, const Safetensors& file, Graph& graph) {
  std::set<std::string> used;
  for (const JsonValue& item : expect_array(json, file.name() + ": ops")) {
    Object object(item, file.name() + ": operation " + std::to_string(graph.ops.size()));
    Op op{object.string("name"), make_params(object.string("op"), object.where())};
    OpReader reader(object, op.name, ids, file, used);
    std::visit([&](auto& params) { visit_fields(reader, params); }, op.params);
    object.done();
    graph.ops.push_back(std::move(op));
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (!used.contains(name)) fail(file.name() + ": tensor '" + name + "' belongs to no operation");
  }
}

Graph graph_from_json(const JsonValue& json, const Safetensors& file) {
  Object object(json, file.name() + ": graph");
  Graph graph;
  ValueIds ids;
  for (const JsonValue& item : expect_array(object.get("values"), file.name() + ": values")) {
    graph.values.push_back(value_from_json(item, graph.values.size(), file.name()));
    if (!ids.emplace(graph.values.back().name, graph.values.size() - 1).second) {
      fail(file.name() + ": two values are called '" + graph.values.back().name + "'");
    }
  }
  const auto id_of = [&](const char* field) {
    const auto it = ids.find(object.string(field));
    if (it == ids.end()) fail(file.name() + ": graph: '" + field + "' names no value");
    return it->second;
  };
  graph.input = id_of("input");
  graph.output = id_of("output");
  read_ops(object.get("ops"), ids, file, graph);
  Object features(object.get("features"), file.name() + ": features");
  for (const auto& [name, value] : features.fields()) {
    const auto it = ids.find(features.string(name.c_str()));
    if (it == ids.end()) fail(features.where() + ": '" + name + "' names no value");
    graph.features.push_back({name, it->second});
  }
  graph.preprocessing = preprocessing_from_json(object.get("preprocessing"), file.name());
  for (const JsonValue& label : expect_array(object.get("labels"), file.name() + ": labels")) {
    if (label.string() == nullptr) fail(file.name() + ": labels must be strings");
    graph.labels.push_back(*label.string());
  }
  Object provenance(object.get("provenance"), file.name() + ": provenance");
  for (const auto& [key, value] : provenance.fields()) {
    graph.provenance[key] = provenance.string(key.c_str());
  }
  object.done();
  return graph;
}

Graph graph_from_container(const Safetensors& file) {
  const auto& metadata = file.metadata();
  const auto entry = [&](const char* key) -> const std::string& {
    const auto it = metadata.find(key);
    if (it == metadata.end()) {
      fail(file.name() + ": not an Intaglio model: the metadata has no '" + key + "'");
    }
    return it->second;
  };
  if (entry("format") != "intaglio") fail(file.name() + ": not an Intaglio model");
  if (entry("version") != std::to_string(kModelFileVersion)) {
    throw Error(ErrorCode::kUnsupported, file.name() + ": file format version " + entry("version") +
                                             ", this build reads version " +
                                             std::to_string(kModelFileVersion));
  }
  verify_checksum(file);
  Graph graph = graph_from_json(JsonValue::parse(entry("graph"), file.name() + ": graph"), file);
  try {
    check(graph);
  } catch (const Error& e) {
    throw Error(e.code(), file.name() + ": " + e.what());
  }
  return graph;
}

}  // namespace

Graph load_model_file(const std::filesystem::path& path, std::size_t threads) {
  const Safetensors file = Safetensors::read(path, threads);
  Graph graph = graph_from_container(file);
  graph.memory = file.memory();
  return graph;
}

Graph parse_model(std::span<const std::byte> bytes, const std::string& name) {
  const auto copy = std::make_shared<PageMemory>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), copy->data());
  Graph graph = graph_from_container(Safetensors::parse(copy, {copy->data(), bytes.size()}, name));
  graph.memory = copy;
  return graph;
}

std::vector<std::byte> serialize_model(const Graph& graph) {
  check(graph);
  std::map<std::string, TensorView> tensors;
  Json json;
  for (const Value& value : graph.values) json["values"].push_back(value_to_json(value));
  for (const Op& op : graph.ops) json["ops"].push_back(OpWriter(graph, op, tensors).take());
  json["input"] = graph.values[graph.input].name;
  json["output"] = graph.values[graph.output].name;
  json["features"] = Json::object();
  for (const Feature& feature : graph.features) {
    json["features"][feature.name] = graph.values.at(feature.value).name;
  }
  json["preprocessing"] = preprocessing_to_json(graph.preprocessing);
  json["labels"] = graph.labels;
  json["provenance"] = Json::object();
  for (const auto& [key, value] : graph.provenance) json["provenance"][key] = value;

  const std::map<std::string, std::string> metadata = {
      {"format", "intaglio"},
      {"version", std::to_string(kModelFileVersion)},
      {"checksum", std::string(kChecksumDigits, '0')},
      {"graph", dump(json)},
  };
  std::vector<std::byte> bytes = serialize_safetensors(tensors, metadata);
  const std::size_t at = find_checksum(bytes);
  if (at == 0) fail("a label or name imitates the checksum's key");
  const std::string digits = checksum(bytes, at);
  std::memcpy(bytes.data() + at, digits.data(), digits.size());
  return bytes;
}

void save_model_file(const Graph& graph, const std::filesystem::path& path) {
  write_file_atomically(path, serialize_model(graph));
}

}  // namespace intaglio
