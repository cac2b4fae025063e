// Float checkpoints of every container: what they hold comes out, whatever its form.
#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "converters/checkpoint.h"
#include "converters/float_tensor.h"
#include "graph/safetensors.h"
#include "tests/support/archives.h"
#include "tests/support/expect_error.h"
#include "tests/support/folder.h"

namespace intaglio {
namespace {

using test::bytes_of;
using test::check_error;
using test::Folder;
using test::npy;
using test::npy_header;
using test::torch_file;
using test::zip_archive;
namespace pkl = test::pkl;

using Floats = std::vector<float>;
using Shape = std::vector<std::size_t>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The checkpoint of a file of these bytes.
Checkpoint checkpoint(const Folder& folder, const std::string& bytes, const std::string& key = "") {
  return Checkpoint::open(folder.write("file", bytes), key);
}

std::string safetensors(const std::map<std::string, TensorView>& tensors,
                        const std::map<std::string, std::string>& metadata = {}) {
  const std::vector<std::byte> bytes = serialize_safetensors(tensors, metadata);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
TensorView view(DType dtype, Shape shape, const std::string& data) {
  return {dtype, std::move(shape), std::as_bytes(std::span(data.data(), data.size()))};
}

std::vector<std::string> names(const Checkpoint& file) {
  std::vector<std::string> names;
  for (const auto& [name, shape] : file.shapes()) names.push_back(name);
  return names;
}

/// A tensor of `n` floats from a storage.
std::string vector_of(std::int64_t n, const std::string& key = "0") {
  return pkl::tensor({.key = key, .numel = n, .shape = {n}, .strides = {1}});
}
const std::string kSix = bytes_of(Floats{0, 1, 2, 3, 4, 5});

}  // namespace

TEST_CASE("every half and bfloat16 is read exactly", "[checkpoint]") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto check = [&](float found, int exponent_bits, int fraction_bits) {
      const int bias = (1 << (exponent_bits - 1)) - 1;
      const int fraction = static_cast<int>(bits) & ((1 << fraction_bits) - 1);
      const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
      const bool special = exponent == (1 << exponent_bits) - 1;
      const double scaled = exponent == 0 ? fraction : fraction + (1 << fraction_bits);
      double expected = std::ldexp(scaled, std::max(exponent, 1) - bias - fraction_bits);
      if (special) expected = std::numeric_limits<double>::infinity();
      if ((bits >> 15) != 0) expected = -expected;
      const bool right =
          special && fraction != 0 ? std::isnan(found) : static_cast<double>(found) == expected;
      if (!right || std::signbit(found) != ((bits >> 15) != 0)) FAIL(bits << " gives " << found);
    };
    check(half_to_float(static_cast<std::uint16_t>(bits)), 5, 10);
    check(bfloat16_to_float(static_cast<std::uint16_t>(bits)), 8, 7);
  }
  CHECK(half_to_float(0x3c01) == 1.0F + 1.0F / 1024);
  CHECK(bfloat16_to_float(0x3f81) == 1.0F + 1.0F / 128);
}

TEST_CASE("doubles are rounded, those out of range become infinite", "[checkpoint]") {
  const std::vector<double> values = {0.1,
                                      -1e-60,
                                      1e39,
                                      -1e308,
                                      std::numeric_limits<double>::infinity(),
                                      std::numeric_limits<float>::max()};
  CHECK(to_floats(DType::kF64, std::as_bytes(std::span(values)), "x") ==
        Floats{0.1F, -0.0F, kInfinity, -kInfinity, kInfinity, std::numeric_limits<float>::max()});
  check_error([] { to_floats(DType::kS64, {}, "file: tensor 'x'"); }, ErrorCode::kUnsupported,
              "file: tensor 'x': expected F32, F16, BF16 or F64, found I64");
}

TEST_CASE("views are gathered in row-major order", "[checkpoint]") {
  const Floats values = {0, 1, 2, 3, 4, 5};
  CHECK(row_major_strides({2, 3, 4}) == Shape{12, 4, 1});
  CHECK(row_major_strides({}).empty());
  CHECK(gather(values, {}, {}) == Floats{0});
  CHECK(gather(values, {3, 2}, {1, 3}) == Floats{0, 3, 1, 4, 2, 5});
  CHECK(gather(values, {2, 2}, {3, 2}) == Floats{0, 2, 3, 5});
  CHECK(gather(values, {2, 3}, {0, 1}) == Floats{0, 1, 2, 0, 1, 2});
  CHECK(gather(values, {2, 0}, {1, 1}).empty());
}

TEST_CASE("a checkpoint of safetensors", "[checkpoint]") {
  const Folder folder;
  const std::string floats = bytes_of(Floats{1, -2, 3, 4, 5, 6});
  const std::string halves = bytes_of(std::vector<std::uint16_t>{0x3c00, 0xc000});
  const std::string doubles = bytes_of(std::vector<double>{0.5});
  const std::string bad = bytes_of(Floats{0, kInfinity});
  const Checkpoint file =
      checkpoint(folder, safetensors({{"w", view(DType::kF32, {2, 3}, floats)},
                                      {"h", view(DType::kF16, {2}, halves)},
                                      {"b", view(DType::kBF16, {2}, halves)},
                                      {"d", view(DType::kF64, {}, doubles)},
                                      {"i", view(DType::kS32, {2}, bytes_of(Floats{1, 2}))},
                                      {"bad", view(DType::kF32, {2}, bad)}},
                                     {{"format", "pt"}}));
  CHECK(file.container() == "safetensors");
  CHECK(file.name() == (folder / "file").string());
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
  CHECK(names(file) == std::vector<std::string>{"b", "bad", "d", "h", "i", "w"});
  CHECK(file.shapes().at("w") == Shape{2, 3});
  CHECK(file.types().at("b") == "BF16");
  CHECK(file.has("w"));
  CHECK_FALSE(file.has("x"));
  CHECK(file.read("w") == Floats{1, -2, 3, 4, 5, 6});
  CHECK(file.read("h") == Floats{1, -2});
  CHECK(file.read("b") == Floats{0.0078125F, -2});
  CHECK(file.read("d") == Floats{0.5F});
  check_error([&] { file.read("x\n"); }, ErrorCode::kFormat, "file: tensor 'x\\x0a' is missing");
  check_error([&] { file.read("i"); }, ErrorCode::kUnsupported, "tensor 'i': expected F32");
  check_error(
      [&] { file.read("bad"); }, ErrorCode::kFormat,
      "tensor 'bad': expected finite numbers of float32, found an infinite one as element 1");
  check_error([&] { Checkpoint::open(folder / "file", "model"); }, ErrorCode::kInvalidArgument,
              "expected a PyTorch file for the key 'model', found safetensors");
}

TEST_CASE("a checkpoint in several files, by its index", "[checkpoint]") {
  const Folder folder;
  folder.write("1.safetensors",
               safetensors({{"a", view(DType::kF32, {2}, bytes_of(Floats{1, 2}))},
                            {"unused", view(DType::kF32, {1}, bytes_of(Floats{0}))}}));
  folder.write("2.safetensors", safetensors({{"b", view(DType::kF32, {}, bytes_of(Floats{3}))}}));
  const auto index = [&](const std::string& map) {
    return checkpoint(folder, R"({"metadata": {"total_size": 12}, "weight_map": )" + map + "}");
  };
  {
    const Checkpoint file = index(R"({"a": "1.safetensors", "b": "2.safetensors"})");
    CHECK(file.container() == "safetensors, files: 2");
    CHECK(names(file) == std::vector<std::string>{"a", "b"});
    CHECK(file.read("a") == Floats{1, 2});
    CHECK(file.read("b") == Floats{3});
  }
  check_error([&] { index(R"({"c": "1.safetensors"})"); }, ErrorCode::kFormat, "'c' is missing");
  check_error([&] { index(R"({"a": "3.safetensors"})"); }, ErrorCode::kIo, "cannot open");
  for (const char* where :
       {"\"../1.safetensors\"", "\"/dev/zero\"", "\"..\"", "\"\"", "\"1.safetensors\\u0000\""}) {
    check_error([&] { index(std::string(R"({"a": )") + where + "}"); }, ErrorCode::kFormat,
                "tensor 'a': expected the name of a file beside the index");
  }
  check_error([&] { index("{\"a\": 1}"); }, ErrorCode::kFormat, "expected a file's name");
  check_error([&] { index("3"); }, ErrorCode::kFormat, "expected an object 'weight_map'");
  check_error([&] { checkpoint(folder, "{\"weight_map\""); }, ErrorCode::kFormat, "valid JSON");
  check_error([&] { checkpoint(folder, std::string(100000, '[').replace(0, 2, "{[")); },
              ErrorCode::kFormat, "valid JSON");
}

TEST_CASE("a checkpoint of PyTorch", "[checkpoint]") {
  const Folder folder;
  const std::string state = pkl::ordered_dict(pkl::named({
      {"w", pkl::tensor({.numel = 6, .shape = {2, 3}, .strides = {3, 1}})},
      {"transposed", pkl::tensor({.numel = 6, .shape = {3, 2}, .strides = {1, 3}})},
      {"column", pkl::tensor({.numel = 6, .offset = 1, .shape = {2}, .strides = {3}})},
      {"odd_stride", pkl::tensor({.numel = 6, .shape = {1, 6}, .strides = {INT64_MAX, 1}})},
      {"scalar", pkl::tensor({.numel = 6, .offset = 5})},
      {"empty", pkl::tensor({.numel = 6, .offset = 9, .shape = {4, 0}, .strides = {1, 1}})},
      {"parameter", pkl::parameter(vector_of(6))},
      {"h", pkl::tensor({.storage = "HalfStorage", .key = "h", .shape = {1}, .strides = {1}})},
      {"b", pkl::tensor({.storage = "BFloat16Storage", .key = "h", .shape = {1}, .strides = {1}})},
      {"d", pkl::tensor({.storage = "DoubleStorage", .key = "d", .shape = {1}, .strides = {1}})},
      {"i", pkl::tensor({.storage = "LongStorage", .key = "d"})},
      {"strange", pkl::tensor({.storage = "ComplexFloatStorage", .key = "d"})},
      {"sparse", pkl::call(pkl::global("torch._utils", "_rebuild_sparse_tensor"), {"N"})},
      {"steps", pkl::integer(7)},
  }));
  const Checkpoint file =
      checkpoint(folder, torch_file(state + "}b",  // with a state of its own
                                    {{"0", kSix},
                                     {"h", std::string("\x00\x3c", 2)},
                                     {"d", bytes_of(std::vector<double>{0.25})}}));
  CHECK(file.container() == "PyTorch (top level)");
  CHECK(file.metadata().empty());
  CHECK(file.shapes().size() == 11);
  CHECK(file.shapes().at("transposed") == Shape{3, 2});
  CHECK(file.types().at("i") == "I64");
  CHECK(file.read("w") == Floats{0, 1, 2, 3, 4, 5});
  CHECK(file.read("parameter") == Floats{0, 1, 2, 3, 4, 5});
  CHECK(file.read("odd_stride") == Floats{0, 1, 2, 3, 4, 5});
  CHECK(file.read("transposed") == Floats{0, 3, 1, 4, 2, 5});
  CHECK(file.read("column") == Floats{1, 4});
  CHECK(file.read("scalar") == Floats{5});
  CHECK(file.read("empty").empty());
  CHECK(file.read("h") == Floats{1});
  CHECK(file.read("b") == Floats{0.0078125F});
  CHECK(file.read("d") == Floats{0.25F});
  check_error([&] { file.read("i"); }, ErrorCode::kUnsupported, "tensor 'i': expected F32");
  check_error([&] { file.read("steps"); }, ErrorCode::kFormat,
              "tensor 'steps': expected a tensor, found an integer");
  check_error([&] { file.read("sparse"); }, ErrorCode::kFormat,
              "expected a tensor, found an object of 'torch._utils._rebuild_sparse_tensor'");
  check_error([&] { file.read("strange"); }, ErrorCode::kFormat, "tensor 'strange': expected");
}

TEST_CASE("dictionaries of tensors are found where training scripts put them", "[checkpoint]") {
  const Folder folder;
  const auto at = [](float value) {  // a dictionary with one tensor, of storage 0, 1 ...
    return pkl::dict(pkl::named({{"x", vector_of(1, std::to_string(static_cast<int>(value)))}}));
  };
  const auto open = [&](const pkl::Items& items, const std::string& key = "") {
    return checkpoint(folder,
                      torch_file(pkl::dict(pkl::named(items)), {{"0", bytes_of(Floats{0})},
                                                                {"1", bytes_of(Floats{1})},
                                                                {"2", bytes_of(Floats{2})}}),
                      key);
  };
  const std::string arguments =
      pkl::global("argparse", "Namespace") + ")\x81" + pkl::dict(pkl::named({{"lr", "N"}})) + "b";
  const pkl::Items all = {{"model", at(0)},
                          {"args", arguments},
                          {"model_ema", at(1)},
                          {"epoch", pkl::integer(300)},
                          {"teacher", at(2)}};
  CHECK(open(all).container() == "PyTorch (model_ema)");
  CHECK(open(all).read("x") == Floats{1});
  CHECK(open(all, "model").read("x") == Floats{0});
  CHECK(open(all, "teacher").container() == "PyTorch ('teacher')");
  CHECK(open(all, "teacher").read("x") == Floats{2});
  CHECK(open({{"state_dict", at(0)}, {"state_dict_ema", at(1)}}).read("x") == Floats{1});
  CHECK(open({{"model", pkl::text("vit_base")}, {"state_dict", at(2)}}).read("x") == Floats{2});
  CHECK(open({{"model", pkl::dict({})}, {"x", vector_of(1, "1")}}).container() ==
        "PyTorch (top level)");
  check_error(
      [&] { open(all, "args"); }, ErrorCode::kInvalidArgument,
      "expected a dictionary of tensors under 'args', found 'model' (a dictionary), 'args' "
      "(an object of 'argparse.Namespace'), 'model_ema' (a dictionary), 'epoch' (an integer)");
  check_error([&] { open(all, "no"); }, ErrorCode::kInvalidArgument, "under 'no', found 'model'");
  check_error(
      [&] {
        open({{"model", pkl::call(pkl::global("timm.vit", "Vit"), {})}});
      },
      ErrorCode::kFormat,
      "expected a dictionary of tensors (a state_dict()), at the top level or under one of "
      "its usual names, found 'model' (an object of 'timm.vit.Vit')");
  check_error([&] { open({}); }, ErrorCode::kFormat, "found an empty dictionary");

  const auto prefixed = [&](const std::string& second) {
    return names(open({{"module.a", vector_of(1)}, {second, vector_of(1)}}));
  };
  CHECK(prefixed("module.b") == std::vector<std::string>{"a", "b"});
  CHECK(prefixed("b") == std::vector<std::string>{"b", "module.a"});
}

TEST_CASE("a checkpoint of NumPy", "[checkpoint]") {
  const Folder folder;
  const std::string halves = bytes_of(std::vector<std::uint16_t>{0x3c00, 0x0001});
  const Checkpoint file = checkpoint(
      folder, zip_archive({
                  {"w.npy", npy(npy_header("<f4", "(2, 3)"), kSix)},
                  {"packed.npy", npy(npy_header("<f4", "(6,)"), kSix, 2), true},
                  {"fortran.npy", npy(npy_header("<f4", "(2, 3)", true), kSix, 3), true},
                  {"long.npy", npy(npy_header("<f4", "(2L, 3L)"), kSix)},
                  {"block/kernel.npy", npy(npy_header("<f2", "(2,)"), halves)},
                  {"d.npy", npy(npy_header("<f8", "()"), bytes_of(std::vector<double>{-0.5}))},
                  {"empty.npy", npy(npy_header("<f4", "(0, 3)", true), "")},
                  {"i.npy", npy(npy_header("<i4", "(6,)"), kSix)},
                  {"big.npy", npy(npy_header(">f4", "(6,)"), kSix)},
                  {"odd.npy", npy("{'shape':(6,),'fortran_order':False,\"descr\":'|O'}", "pickle")},
                  {"fields.npy", npy("{'descr':[('a','<f4'),('b',[('c','<f4')])],"
                                     "'fortran_order':False,'shape':(3,)}",
                                     kSix)},
                  {"README", "not an array"},
              }));
  CHECK(file.container() == "NumPy archive");
  CHECK(file.shapes().size() == 11);
  CHECK(file.shapes().at("big") == Shape{6});
  CHECK(file.types().at("big") == ">f4");
  CHECK(file.read("w") == Floats{0, 1, 2, 3, 4, 5});
  CHECK(file.read("packed") == Floats{0, 1, 2, 3, 4, 5});
  CHECK(file.read("long") == Floats{0, 1, 2, 3, 4, 5});
  CHECK(file.read("fortran") == Floats{0, 2, 4, 1, 3, 5});
  CHECK(file.read("block/kernel") == Floats{1, std::ldexp(1.0F, -24)});
  CHECK(file.read("d") == Floats{-0.5F});
  CHECK(file.read("empty").empty());
  check_error([&] { file.read("i"); }, ErrorCode::kUnsupported, "tensor 'i': expected F32");
  check_error([&] { file.read("big"); }, ErrorCode::kUnsupported,
              "tensor 'big': expected '<f4', '<f2' or '<f8', found '>f4'");
  check_error([&] { file.read("odd"); }, ErrorCode::kUnsupported, "found '|O'");
  check_error([&] { file.read("fields"); }, ErrorCode::kUnsupported, "found '[('a','<f4'),");
  check_error([&] { Checkpoint::open(folder / "file", "model"); }, ErrorCode::kInvalidArgument,
              "found NumPy archive");
}

}  // namespace intaglio
