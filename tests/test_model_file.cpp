// The .intg file: what is written is read; nothing damaged, contradictory or hostile is.
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "graph/model_file.h"
#include "graph/print.h"
#include "tests/support/edit_graph.h"
#include "tests/support/expect_error.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {
namespace {

using Bytes = std::vector<std::byte>;
using Json = nlohmann::json;

Graph tiny_graph() {
  CalibratedVit vit = tiny_vit();
  vit.vit.provenance["note"] = "\"checksum\":\"00000000000000000000000000000000\" \u00e9 \n";
  return lowered(vit, {"a label", "", "\u732b, \"checksum\":\""});
}

/// XXH3-128 with the digits read as zeros, as docs/file_format.md has it; written here once more.
Bytes stamped(Bytes bytes) {
  const std::string key = "\"checksum\":\"";
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::size_t at = text.find(key) + key.size();
  std::memset(bytes.data() + at, '0', 32);
  XXH128_canonical_t hash;
  XXH128_canonicalFromHash(&hash, XXH3_128bits(bytes.data(), bytes.size()));
  for (std::size_t i = 0; i < 32; ++i) {
    const int digit = hash.digest[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15;
    bytes[at + i] = static_cast<std::byte>("0123456789abcdef"[digit]);
  }
  return bytes;
}

/// The parts of a model file, open to changes.
struct Parts {
  Checkpoint container;
  Json graph;

  Json& value(std::size_t i) { return graph["values"][i]; }
  Json& op(const std::string& kind) {
    for (Json& op : graph["ops"]) {
      if (op["op"] == kind) return op;
    }
    FAIL("no operation " << kind);
    throw std::logic_error("unreachable");
  }
  Checkpoint::Tensor& tensor(const std::string& name) { return container.tensors.at(name); }
  Bytes bytes() {
    if (container.metadata.contains("graph")) container.metadata["graph"] = graph.dump();
    return stamped(container.bytes());
  }
};

Parts take_apart(const Bytes& bytes) {
  const auto owner = std::make_shared<const Bytes>(bytes);
  Parts parts{Checkpoint::copy_of(Safetensors::parse(owner, *owner, "model")), {}};
  parts.graph = Json::parse(parts.container.metadata.at("graph"));
  return parts;
}

struct Forgery {
  const char* name;
  std::function<void(Parts&)> apply;
  std::string piece;
  ErrorCode code = ErrorCode::kFormat;
};

void check_forgeries(const std::vector<Forgery>& forgeries) {
  const Bytes sound = serialize_model(tiny_graph());
  REQUIRE(take_apart(sound).bytes() == sound);
  for (const Forgery& forgery : forgeries) {
    INFO(forgery.name);
    Parts parts = take_apart(sound);
    forgery.apply(parts);
    const Bytes bytes = parts.bytes();
    check_error([&] { parse_model(bytes, "the.model"); }, forgery.code, forgery.piece);
    CHECK_THAT(error_of([&] { parse_model(bytes, "the.model"); }).what(),
               Catch::StartsWith("the.model: "));
  }
}

/// Sets a field of the graph's JSON by its path.
std::function<void(Parts&)> set(const char* pointer, Json to) {
  return [=](Parts& p) { p.graph.at(Json::json_pointer(pointer)) = to; };
}
std::function<void(Parts&)> erase(const char* pointer, const char* field) {
  return [=](Parts& p) { REQUIRE(p.graph.at(Json::json_pointer(pointer)).erase(field) == 1); };
}
std::function<void(Parts&)> metadata(const char* key, const char* to) {
  return [=](Parts& p) { p.container.metadata[key] = to; };
}

const std::vector<Forgery> kTopLevel = {
    {"another format", metadata("format", "pt"), "not an Intaglio model"},
    {"no format", [](Parts& p) { p.container.metadata.erase("format"); }, "has no 'format'"},
    {"version 1", metadata("version", "1"), "file format version 1, this build reads version 3",
     ErrorCode::kUnsupported},
    {"version 02", metadata("version", "02"), "version 02", ErrorCode::kUnsupported},
    {"no version", [](Parts& p) { p.container.metadata.erase("version"); }, "has no 'version'"},
    {"no graph", [](Parts& p) { p.container.metadata.erase("graph"); }, "has no 'graph'"},
    {"graph a list", [](Parts& p) { p.graph = Json::array(); }, "graph: expected a JSON object"},
    {"graph null", [](Parts& p) { p.graph = nullptr; }, "graph: expected a JSON object"},
    {"no values", erase("", "values"), "field 'values' is missing"},
    {"no operations", erase("", "ops"), "field 'ops' is missing"},
    {"no input", erase("", "input"), "field 'input' is missing"},
    {"no preprocessing", erase("", "preprocessing"), "field 'preprocessing' is missing"},
    {"no labels", erase("", "labels"), "field 'labels' is missing"},
    {"no provenance", erase("", "provenance"), "field 'provenance' is missing"},
    {"a field too many", [](Parts& p) { p.graph["extra"] = 1; }, "graph: unknown field 'extra'"},
    {"values an object", set("/values", Json::object()), "values must be an array"},
    {"operations a string", set("/ops", "x"), "ops must be an array"},
    {"input a number", set("/input", 0), "field 'input' must be a string"},
    {"input unknown", set("/input", "x"), "'input' names no value"},
    {"output unknown", set("/output", "x"), "'output' names no value"},
    {"labels null", set("/labels", nullptr), "labels must be an array"},
    {"a label no string", set("/labels/1", 7), "labels must be strings"},
    {"a label too many", [](Parts& p) { p.graph["labels"].push_back("x"); }, "4 labels for 3"},
    {"provenance a list", set("/provenance", Json::array()), "provenance: expected a JSON object"},
    {"provenance a number", set("/provenance/lis", 1), "field 'lis' must be a string"},
    {"resize 0", set("/preprocessing/resize", 0), "'resize' must be an integer in [1, 8192]"},
    {"height 4097", set("/preprocessing/height", 4097), "'height' must be an integer in [1, 4096]"},
    {"height real", set("/preprocessing/height", 8.0), "'height' must be an integer"},
    {"width null", set("/preprocessing/width", nullptr), "'width' must be an integer"},
    {"another filter", set("/preprocessing/interpolation", "lanczos"), "unknown interpolation"},
    {"two means", set("/preprocessing/mean", {1, 2}), "'mean' needs 3 numbers"},
    {"std of strings", set("/preprocessing/std", {"1", "1", "1"}), "'std' needs 3 numbers"},
    {"a crop", set("/preprocessing", {{"crop", 1}}), "field 'resize' is missing"},
};

const std::vector<Forgery> kValuesAndOps = {
    {"a value no object", set("/values/0", 1), "value 0: expected a JSON object"},
    {"a value without name", erase("/values/2", "name"), "value 2: field 'name' is missing"},
    {"two values of one name", [](Parts& p) { p.value(2)["name"] = p.value(1)["name"]; },
     "two values are called"},
    {"a value's unknown field", [](Parts& p) { p.value(1)["axis"] = 0; }, "unknown field 'axis'"},
    {"dtype F32", set("/values/1/dtype", "F32"), "dtype 'F32' is no activation type"},
    {"dtype a number", set("/values/1/dtype", 8), "field 'dtype' must be a string"},
    {"shape a number", set("/values/1/shape", 8), "field 'shape' must be an array"},
    {"shape negative", set("/values/1/shape/0", -1), "'shape' must be an integer in [1, "},
    {"shape 0", set("/values/1/shape/0", 0), "'shape' must be an integer in [1, "},
    {"shape 2^31", set("/values/1/shape/0", 1LL << 31), "'shape' must be an integer in [1, "},
    {"shape 2^63", set("/values/1/shape/0", 1ULL << 63), "'shape' must be an integer in [1, "},
    {"shape real", set("/values/1/shape/0", 4.0), "'shape' must be an integer in [1, "},
    {"scale a string", set("/values/1/scale", "1"), "field 'scale' must be a number"},
    {"scale null, as JSON has NaN", set("/values/1/scale", nullptr), "'scale' must be a number"},
    {"scale negative", set("/values/1/scale", -1), "the scale must be positive and finite"},
    {"zero point 2^31", set("/values/1/zero_point", 1LL << 31), "'zero_point' must be an integer"},
    {"exponents negative", [](Parts& p) { p.value(1)["exponents"] = {-1}; }, "integer in [0, 255]"},
    {"exponents 256", [](Parts& p) { p.value(1)["exponents"] = {256}; }, "integer in [0, 255]"},
    {"exponents a number", [](Parts& p) { p.value(1)["exponents"] = 1; }, "must be an array"},
    {"an operation no object", set("/ops/1", "x"), "operation 1: expected a JSON object"},
    {"an operation without kind", erase("/ops/1", "op"), "operation 1: field 'op' is missing"},
    {"an unknown kind", set("/ops/1/op", "conv"), "operation 1: unknown operation 'conv'"},
    {"another kind", set("/ops/1/op", "lookup"), "is missing"},
    {"an operation's unknown field", [](Parts& p) { p.op("gelu")["exact"] = true; },
     "unknown field 'exact'"},
    {"no operand", [](Parts& p) { p.op("gelu").erase("src"); }, "field 'src' is missing"},
    {"an unknown operand", [](Parts& p) { p.op("gelu")["src"] = "x"; }, "no value is called 'x'"},
    {"an operand by number", [](Parts& p) { p.op("gelu")["src"] = 3; }, "must be a string"},
    {"an unknown result", [](Parts& p) { p.op("gelu")["dst"] = "x"; }, "no value is called 'x'"},
    {"an unknown residual", [](Parts& p) { p.op("linear")["residual"] = "x"; }, "is called 'x'"},
    {"residual null", [](Parts& p) { p.op("linear")["residual"] = nullptr; }, "must be a string"},
    {"residual", [](Parts& p) { p.op("linear")["residual"] = "image"; }, "'image' is the image"},
    {"a shift of 2^40", [](Parts& p) { p.op("linear")["shift"] = 1LL << 40; }, "'shift' must be"},
    {"a shift in quotes", [](Parts& p) { p.op("linear")["shift"] = "20"; }, "'shift' must be"},
    {"a boolean shift", [](Parts& p) { p.op("linear")["shift"] = true; }, "'shift' must be"},
    {"another softmax", [](Parts& p) { p.op("attention")["form"] = "exact"; },
     "unknown softmax form 'exact'"},
    {"row-relative softmax", [](Parts& p) { p.op("attention")["form"] = "row_relative"; },
     "codes has shape [], expected [256]"},
};

const std::vector<Forgery> kTensors = {
    {"a tensor missing", [](Parts& p) { p.container.tensors.erase("head.weight"); },
     "tensor 'head.weight' is missing"},
    {"a tensor too many", [](Parts& p) { p.container.tensors["x"] = p.tensor("head.weight"); },
     "tensor 'x' belongs to no operation"},
    {"a renamed operation", [](Parts& p) { p.op("embed")["name"] = "x"; }, "'x.prefix' is missing"},
    {"two operations share tensors", [](Parts& p) { p.graph["ops"].push_back(p.op("linear")); },
     "is made twice"},
    {"a tensor of another dtype", [](Parts& p) { p.tensor("head.weight").dtype = DType::kU8; },
     "tensor 'head.weight': expected I8, found U8 [3, 8]"},
    {"a tensor of another size",
     [](Parts& p) {
       p.tensor("head.weight").dtype = DType::kS32;
       p.tensor("head.weight").shape = {3, 2};
     },
     "expected I8, found I32 [3, 2]"},
    {"a tensor transposed",
     [](Parts& p) {
       p.tensor("head.weight").shape = {8, 3};
     },
     "weight has shape [8, 3], expected [3, 8]"},
    {"an empty tensor",
     [](Parts& p) {
       p.tensor("head.bias") = {DType::kS64, {0}, {}};
     },
     "bias has shape [0], expected [3]"},
};

/// Damage of any kind: the codes a reader may answer with.
void check_refused(const Bytes& bytes) {
  try {
    parse_model(bytes, "model");
  } catch (const Error& error) {
    const bool known = error.code() == ErrorCode::kFormat ||
                       error.code() == ErrorCode::kIntegrity ||
                       error.code() == ErrorCode::kUnsupported;
    if (!known) FAIL("code " << int(error.code()) << ": " << error.what());
    return;
  }
  FAIL("accepted");
}

}  // namespace

TEST_CASE("a model file gives back the graph, and the same bytes again") {
  const Graph graph = tiny_graph();
  const Bytes bytes = serialize_model(graph);
  CHECK(bytes == serialize_model(tiny_graph()));
  CHECK(bytes == stamped(bytes));
  CHECK(bytes.size() < 20'000);
  const Graph read = parse_model(bytes, "model");
  CHECK(serialize_model(read) == bytes);
  CHECK(print(read) == print(graph));
  CHECK(print_json(read) == print_json(graph));
  CHECK(read.labels == graph.labels);
  CHECK(read.preprocessing == graph.preprocessing);
  CHECK(read.provenance == graph.provenance);
  REQUIRE(read.values.size() == graph.values.size());
  for (std::size_t i = 0; i < graph.values.size(); ++i) {
    CHECK(read.values[i].grid.scale == graph.values[i].grid.scale);  // to the last bit
    CHECK(read.values[i].grid.exponents == graph.values[i].grid.exponents);
  }
}

TEST_CASE("every form of the softmax comes back from a file") {
  for (const auto change : {+[](Graph&) {}, &make_row_relative, &make_uniform}) {
    Graph graph = tiny_graph();
    change(graph);
    const Bytes bytes = serialize_model(graph);
    Graph read = parse_model(bytes, "model");
    CHECK(serialize_model(read) == bytes);
    CHECK(print_json(read) == print_json(graph));
    CHECK(op<AttentionOp>(read).form == op<AttentionOp>(graph).form);
    CHECK(op<AttentionOp>(read).probability_factor.size() ==
          op<AttentionOp>(graph).probability_factor.size());
  }
}

TEST_CASE("a saved model is mapped, and outlives its file") {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("intaglio-" + std::to_string(::getpid()) + ".intg");
  const Graph graph = tiny_graph();
  save_model_file(graph, path);
  const Graph read = load_model_file(path);
  const Graph copy = read;  // constants are shared, not copied
  std::filesystem::remove(path);
  CHECK(serialize_model(copy) == serialize_model(graph));
  CHECK(std::get<LinearOp>(copy.ops.back().params).weight.data() ==
        std::get<LinearOp>(read.ops.back().params).weight.data());
  check_error([&] { load_model_file(path); }, ErrorCode::kIo, path.string() + ": cannot open");
}

TEST_CASE("every truncation of a model file is refused") {
  const Bytes bytes = serialize_model(tiny_graph());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    check_refused(Bytes(bytes.begin(), bytes.begin() + std::ptrdiff_t(size)));
  }
  Bytes longer = bytes;
  longer.push_back(std::byte{0});
  check_refused(longer);
}

TEST_CASE("every damaged byte of a model file is noticed") {
  Bytes bytes = serialize_model(tiny_graph());
  for (std::byte& byte : bytes) {
    // 0x20: the case of a letter, and the space that pads the header.
    for (const int mask : {0x01, 0x20, 0x80, 0xff}) {
      byte ^= std::byte(mask);
      check_refused(bytes);
      byte ^= std::byte(mask);
    }
  }
  CHECK_NOTHROW(parse_model(bytes, "model"));
}

TEST_CASE("well-formed files that contradict themselves are refused") {
  check_forgeries(kTopLevel);
  check_forgeries(kValuesAndOps);
  check_forgeries(kTensors);
}

TEST_CASE("the graph's text is no trap") {
  const Bytes sound = serialize_model(tiny_graph());
  const std::string deep(1'000'000, '[');
  const std::string invalid = "graph: expected valid JSON, found an error at byte ";
  const std::pair<std::string, std::string> cases[] = {
      {"", invalid + "1"},
      {"{", invalid + "2"},
      {"{} {}", invalid + "4"},
      {"\u00e9", invalid + "1"},
      {"\"" + std::string(1'000'000, 'x'), invalid + "1000002"},
      {"{\"values\":1e999}", "graph: a number is out of range"},
      {"{\"values\":[],\"values\":[]}", "graph: field 'values' is there twice"},
      {deep, "graph: nested too deeply"},
      {deep + std::string(deep.size(), ']'), "graph: nested too deeply"},
      {std::string(16, '[') + std::string(16, ']'), "graph: expected a JSON object"},
  };
  for (const auto& [text, piece] : cases) {
    Checkpoint container = take_apart(sound).container;
    container.metadata["graph"] = text;
    const Error error = error_of([&] { parse_model(stamped(container.bytes()), "model"); });
    CHECK(error.code() == ErrorCode::kFormat);
    CHECK(error.what() == "model: " + piece);
  }
}

TEST_CASE("a deep header is refused at once") {
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  for (const std::string& header : {"{\"a\":" + std::string(1'000'000, '[') + "}", objects + "}",
                                    "{\"__metadata__\":" + objects + "}"}) {
    const std::uint64_t length = header.size();
    Bytes bytes(sizeof length + length);
    std::memcpy(bytes.data(), &length, sizeof length);
    std::memcpy(bytes.data() + sizeof length, header.data(), length);
    check_error([&] { parse_model(bytes, "model"); }, ErrorCode::kFormat, "model: ");
  }
}

TEST_CASE("a wrong checksum says that the file is damaged") {
  Bytes bytes = serialize_model(tiny_graph());
  bytes.back() ^= std::byte{1};
  check_error([&] { parse_model(bytes, "model"); }, ErrorCode::kIntegrity, "model: damaged");
  const Bytes anew = stamped(bytes);
  CHECK_NOTHROW(parse_model(anew, "model"));  // a changed constant is a model, if not this one

  Checkpoint container = take_apart(bytes).container;
  container.metadata.erase("checksum");
  check_error([&] { parse_model(container.bytes(), "model"); }, ErrorCode::kFormat, "no checksum");
}

TEST_CASE("misaligned tensors are refused") {
  // One more space behind the header moves all data off their alignment.
  Bytes bytes = serialize_model(tiny_graph());
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  bytes.insert(bytes.begin() + std::ptrdiff_t(sizeof length + length), std::byte{' '});
  ++length;
  std::memcpy(bytes.data(), &length, sizeof length);
  check_error([&] { parse_model(stamped(bytes), "model"); }, ErrorCode::kFormat,
              "is not aligned to its elements");
}

TEST_CASE("graphs that a file cannot hold are not written") {
  Graph graph = tiny_graph();
  graph.labels[0] = "\xff";
  check_error([&] { serialize_model(graph); }, ErrorCode::kFormat, "valid UTF-8");
  graph = tiny_graph();
  graph.provenance["\xff"] = "";
  check_error([&] { serialize_model(graph); }, ErrorCode::kFormat, "valid UTF-8");
  graph = tiny_graph();
  graph.ops[1].name = graph.ops.back().name;
  check_error([&] { serialize_model(graph); }, ErrorCode::kFormat, "two operations are called");
  graph.values.clear();
  check_error([&] { serialize_model(graph); }, ErrorCode::kFormat, "the graph is empty");
}

}  // namespace intaglio::test
