#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "graph/error.h"
#include "graph/safetensors.h"
#include "tests/support/expect_error.h"
#include "tests/support/folder.h"

namespace intaglio {
namespace {

namespace fs = std::filesystem;
using test::check_error;
using test::error_of;
using test::Folder;

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// A file of this header and data, with the right header length.
std::string container(const std::string& header, const std::string& data = "") {
  std::string file(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(file.data(), &length, sizeof length);
  return file + header + data;
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":[)" + shape + R"(],"data_offsets":[)" + offsets +
         "]}";
}

/// Parses a copy that ends where its allocation ends, so that a sanitizer sees a read beyond it.
Safetensors parse(const std::string& file) {
  const auto owner = std::make_shared<std::vector<char>>(file.begin(), file.end());
  owner->shrink_to_fit();
  return Safetensors::parse(owner, std::as_bytes(std::span(*owner)), "f");
}

/// The container is refused with a message that contains `piece`.
void check_refused(const std::string& file, const std::string& piece,
                   ErrorCode code = ErrorCode::kFormat) {
  check_error([&] { parse(file); }, code, piece);
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Every dtype, a scalar, an empty tensor; data differ from byte to byte.
struct Sample {
  std::vector<std::byte> data = std::vector<std::byte>(200);
  std::map<std::string, TensorView> tensors;
  std::map<std::string, std::string> metadata = {{"format", "test"}, {"odd", "\"\\\n\u00e4"}};

  Sample() {
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(37 * i + 11);
    std::size_t at = 0;
    for (int i = 0; i <= static_cast<int>(DType::kF64); ++i) {
      const auto dtype = static_cast<DType>(i);
      add("t." + std::string(dtype_name(dtype)), dtype, {3}, at);
      at += 3;  // on purpose: sources of every alignment
    }
    add("scalar", DType::kF32, {}, 1);
    add("empty", DType::kS32, {2, 0, 5}, 0);
    add("cube", DType::kS16, {2, 3, 4}, 7);
  }
  void add(const std::string& name, DType dtype, std::vector<std::size_t> shape, std::size_t at) {
    const std::size_t size = std::accumulate(shape.begin(), shape.end(), dtype_size(dtype),
                                             std::multiplies<std::size_t>());
    tensors[name] = {dtype, std::move(shape), std::span(data).subspan(at, size)};
  }
};

bool same(const TensorView& x, const TensorView& y) {
  return x.dtype == y.dtype && x.shape == y.shape && std::ranges::equal(x.bytes, y.bytes);
}

}  // namespace

TEST_CASE("a container comes back as it was written", "[safetensors]") {
  const Sample sample;
  const std::vector<std::byte> bytes = serialize_safetensors(sample.tensors, sample.metadata);
  CHECK(bytes == serialize_safetensors(sample.tensors, sample.metadata));

  const auto owner = std::make_shared<std::vector<std::byte>>(bytes);
  const Safetensors file = Safetensors::parse(owner, *owner, "sample");
  CHECK(file.name() == "sample");
  CHECK(file.owner() == owner);
  CHECK(file.bytes().data() == owner->data());
  CHECK(file.bytes().size() == owner->size());
  CHECK(file.metadata() == sample.metadata);
  CHECK(std::ranges::equal(file.tensors(), sample.tensors, [](const auto& x, const auto& y) {
    return x.first == y.first && same(x.second, y.second);
  }));
  CHECK(file.find("cube") == &file.at("cube"));
  CHECK(file.find("cub") == nullptr);
  check_error([&] { file.at("cub\n"); }, ErrorCode::kFormat,
              "sample: tensor 'cub\\x0a' is missing");

  SECTION("tensors are aligned to their elements, data to 64 bytes") {
    std::uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof header);
    CHECK((header + 8) % 64 == 0);
    for (const auto& [name, view] : file.tensors()) {
      INFO(name);
      CHECK((view.bytes.data() - file.bytes().data()) % dtype_size(view.dtype) == 0);
    }
  }
  SECTION("the same through a file, which may be gone by then") {
    const Folder folder;
    write_file_atomically(folder / "x", bytes);
    const Safetensors mapped = Safetensors::open(folder / "x");
    fs::remove(folder / "x");
    CHECK(std::ranges::equal(mapped.bytes(), bytes));
    CHECK(mapped.tensors().size() == sample.tensors.size());
  }
}

TEST_CASE("the smallest and the unusual valid containers", "[safetensors]") {
  CHECK(parse(container("{}")).tensors().empty());
  CHECK(parse(container("{ \n\t\"__metadata__\" :\r{} }  ")).metadata().empty());
  CHECK(parse(container(R"({"a":)" + entry("U8", "", "0,1") + "}", "x")).at("a").elements() == 1);
  CHECK(parse(container(R"({"a":)" + entry("F64", "0,9", "0,0") + "}")).at("a").elements() == 0);
  // Empty tensors between others, in any order of the header.
  const std::string three = R"({"c":)" + entry("U8", "2", "2,4") + R"(,"b":)" +
                            entry("U8", "0", "2,2") + R"(,"a":)" + entry("U8", "2", "0,2") + "}";
  CHECK(parse(container(three, "wxyz")).at("c").to_vector<std::uint8_t>("c") ==
        std::vector<std::uint8_t>{'y', 'z'});
  // Keys in escapes, and as long as they like to be.
  CHECK(parse(container(R"({"\u00e4":)" + entry("U8", "0", "0,0") + "}")).find("\u00e4") !=
        nullptr);
  const std::string digits(1000, '7');
  CHECK(parse(container(R"({"__metadata__":{"n\"":")" + digits + R"("}})")).metadata().at("n\"") ==
        digits);
  CHECK(serialize_safetensors({}, {}).size() == 64);
}

TEST_CASE("elements are copied out as their own type only", "[safetensors]") {
  const std::vector<std::int16_t> values = {-32768, 0, 32767};
  std::vector<std::byte> bytes(7);
  std::memcpy(bytes.data() + 1, values.data(), 6);
  const TensorView view{DType::kS16, {3}, std::span(bytes).subspan(1)};
  CHECK(view.elements() == 3);
  CHECK(view.to_vector<std::int16_t>("x") == values);
  check_error([&] { (void)view.to_vector<float>("x"); }, ErrorCode::kFormat,
              "tensor 'x': expected F32, found I16 [3]");
  CHECK(describe(TensorView{DType::kF32, {3, 224, 224}, {}}) == "F32 [3, 224, 224]");
  CHECK(describe(TensorView{}) == "U8 []");
}

TEST_CASE("names in messages are short and printable", "[safetensors]") {
  CHECK(printable("blocks.0.attn") == "'blocks.0.attn'");
  CHECK(printable("\x1b[31m\n\x7f\u009b") == "'\\x1b[31m\\x0a\\x7f\\xc2\\x9b'");
  CHECK(printable(std::string(5000, 'a')).size() < 200);
}

TEST_CASE("files that are no containers", "[safetensors]") {
  const auto raw = [](std::uint64_t length, const std::string& rest) {
    return std::string(reinterpret_cast<const char*>(&length), sizeof length) + rest;
  };
  const std::pair<std::string, const char*> cases[] = {
      {"", "f: not a safetensors file: expected at least 8 bytes, found 0"},
      {"1234567", "expected at least 8 bytes, found 7"},
      {raw(0, ""), "starts with '{', found ''"},
      {raw(2, "{"), "expected a header of 2 bytes, found a file that ends 1 bytes before"},
      {raw(100'000'001, ""), "expected a header of at most 100000000 bytes, found 100000001"},
      {raw(UINT64_MAX, "{}"), "at most 100000000 bytes, found 18446744073709551615"},
      {container(" {}"), "starts with '{', found ' '"},
      {container("\xef\xbb\xbf{}"), "starts with '{', found '\\xef'"},
      {container("    "), "starts with '{', found ''"},
      {container("{}\n"), "ends with '}', found '\\x0a'"},
      {container(std::string("{}\0", 3)), "ends with '}', found '\\x00'"},
      {container("{} null"), "ends with '}', found 'l'"},
  };
  for (const auto& [file, expected] : cases) check_refused(file, expected);
}

TEST_CASE("headers that are no valid JSON", "[safetensors]") {
  const std::pair<std::string, const char*> cases[] = {
      {"{}}", "f: expected valid JSON, found an error at byte 3 of the header"},
      {"{}{}", "valid JSON"},
      {"{} \n}", "valid JSON"},
      {std::string("{}\0 {}", 6), "found a NUL at byte 2"},
      {std::string("{\"a\0\":{}}", 9), "found a NUL at byte 3"},
      {"{\"a\" {}}", "valid JSON"},
      {"{a:{}}", "valid JSON"},
      {"{'a':{}}", "valid JSON"},
      {"{/**/}", "valid JSON"},
      {"{\"__metadata__\":{\"a\":\"\xff\"}}", "valid JSON"},
      {"{\"__metadata__\":{\"a\":\"\xc0\xaf\"}}", "valid JSON"},
      {"{\"__metadata__\":{\"a\":\"\xed\xa0\x80\"}}", "valid JSON"},
      {"{\"__metadata__\":{\"a\":\"\\ud800\"}}", "valid JSON"},
      {"{\"__metadata__\":{\"a\":\"\\x\"}}", "valid JSON"},
      {"{\"__metadata__\":{\"a\":\"\n\"}}", "valid JSON"},
      {R"({"a":{"shape":[01]}})", "valid JSON"},
      {R"({"a":{"shape":[1e999]}})", "valid JSON"},
      {R"({"a":{"shape":[)" + std::string(33, '1') + "]}}", "an endless number at byte 47"},
  };
  for (const auto& [header, expected] : cases) check_refused(container(header), expected);
}

TEST_CASE("headers of the wrong structure", "[safetensors]") {
  const std::string empty = entry("U8", "0", "0,0");
  const std::pair<std::string, const char*> cases[] = {
      // Metadata: strings to strings, once.
      {R"("__metadata__":null)", "f: __metadata__: expected an object, found null"},
      {R"("__metadata__":{"a":1})", "__metadata__, 'a': expected a string, found 1"},
      {R"("__metadata__":{"a":null})", "__metadata__, 'a': expected a string, found null"},
      {R"("__metadata__":{"a":{}})", "__metadata__, 'a': expected a string, found an object"},
      {R"("__metadata__":{"a":["b"]})", "__metadata__, 'a': expected a string, found a list"},
      {R"("__metadata__":{"a":"","a":""})", "__metadata__, 'a': expected once, found twice"},
      {R"("__metadata__":{},"__metadata__":{})", "__metadata__: expected once, found twice"},
      // Tensors: an object of three keys, once.
      {R"("a":1)", "f: tensor 'a': expected an object, found 1"},
      {R"("a":"b")", "tensor 'a': expected an object, found the string 'b'"},
      {R"("a":[])", "tensor 'a': expected an object, found a list"},
      {R"("a":[[[[[[[[[[)", "tensor 'a': expected an object, found a list"},
      {R"("a":{"dtype":{}})", "tensor 'a', 'dtype': expected a string, found an object"},
      {R"("a":{})", "tensor 'a': expected a dtype, found none"},
      {R"("a":{"dtype":"U8"})", "tensor 'a': expected a shape, found none"},
      {R"("a":{"dtype":"U8","shape":[]})", "tensor 'a': expected data_offsets, found none"},
      {R"("a":{"color":"red"})", "'color': expected no key but dtype, shape and data_offsets"},
      {R"("a":{"__metadata__":{}})", "'__metadata__': expected no key but"},
      {R"("a":{"dtype":"U8","dtype":"U8"})", "tensor 'a', 'dtype': expected once, found twice"},
      {R"("a":{"shape":[],"shape":[]})", "tensor 'a', 'shape': expected once, found twice"},
      {R"("a":{"data_offsets":[],"data_offsets":[]})", "'data_offsets': expected once"},
      {R"("a":)" + empty + R"(,"a":)" + empty, "tensor 'a': expected once, found twice"},
      {R"("a":)" + empty + R"(,"\u0061":)" + empty, "tensor 'a': expected once, found twice"},
      // Types of the three.
      {R"("a":{"dtype":1})", "'dtype': expected a string, found 1"},
      {R"("a":{"dtype":["U8"]})", "'dtype': expected a string, found a list"},
      {R"("a":{"shape":3})", "'shape': expected a list of non-negative integers, found 3"},
      {R"("a":{"shape":"dtype"})", "'shape': expected a list of non-negative integers, found the"},
      {R"("a":{"shape":{}})", "'shape': expected a list of non-negative integers, found an object"},
      {R"("a":{"shape":[-1]})", "'shape': expected a non-negative integer, found -1"},
      {R"("a":{"shape":[-0]})", "'shape': expected a non-negative integer, found 0"},
      {R"("a":{"shape":[1.5]})", "'shape': expected a non-negative integer, found '1.5'"},
      {R"("a":{"shape":[1e2]})", "'shape': expected a non-negative integer, found '1e2'"},
      {R"("a":{"shape":[18446744073709551616]})", "integer, found '18446744073709551616'"},
      {R"("a":{"shape":["1"]})", "'shape': expected a non-negative integer, found the string '1'"},
      {R"("a":{"shape":[[1]]})", "'shape': expected a non-negative integer, found a list"},
      {R"("a":{"shape":[{}]})", "'shape': expected a non-negative integer, found an object"},
      {R"("a":{"shape":[false]})", "'shape': expected a non-negative integer, found false"},
      {R"("a\u001b[2J":1)", "tensor 'a\\x1b[2J': expected an object"},
  };
  for (const auto& [entries, expected] : cases)
    check_refused(container("{" + entries + "}"), expected);
}

TEST_CASE("tensors whose numbers do not fit", "[safetensors]") {
  const std::string max = "18446744073709551615";
  const std::pair<std::string, const char*> cases[] = {
      {entry("U8", "4", "0"), "expected 2 data_offsets, found 1"},
      {entry("U8", "4", "0,4,4"), "expected 2 data_offsets, found 3"},
      {entry("U8", "4", "4,0"), "expected data within 4 bytes, found data_offsets [4, 0]"},
      {entry("U8", "5", "0,5"), "expected data within 4 bytes, found data_offsets [0, 5]"},
      {entry("U8", "0", "5,5"), "expected data within 4 bytes, found data_offsets [5, 5]"},
      {entry("U8", max, "0," + max), "expected data within 4 bytes"},
      {entry("U8", "3", "0,4"), "expected 3 bytes for U8 [3], found data_offsets [0, 4]"},
      {entry("I32", "2", "0,4"), "expected 8 bytes for I32 [2], found data_offsets [0, 4]"},
      {entry("F32", "", "0,0"), "expected 4 bytes for F32 [], found data_offsets [0, 0]"},
      // Products that would wrap to 4, or to 0.
      {entry("U8", "2,9223372036854775810", "0,4"), "expected a size of less than 2^64 bytes"},
      {entry("F32", "4611686018427387905", "0,4"), "expected a size of less than 2^64 bytes"},
      {entry("U8", "4294967296,4294967296", "0,0"), "expected a size of less than 2^64 bytes"},
      {entry("U8", "3", "0,3"), "expected 3 bytes of tensors, found 4"},
      {entry("U8", "3", "1,4"), "expected data from byte 0 on, found a hole: they start at 1"},
  };
  for (const auto& [tensor, expected] : cases)
    check_refused(container(R"({"a":)" + tensor + "}", "wxyz"), expected);
  check_refused(container("{}", "x"), "expected 0 bytes of tensors, found 1");

  const auto both = [](const std::string& a, const std::string& b) {
    return container(R"({"a":)" + a + R"(,"b":)" + b + "}", "wxyz");
  };
  check_refused(both(entry("U8", "3", "0,3"), entry("U8", "2", "2,4")),
                "tensor 'b': expected data from byte 3 on, found an overlap: they start at 2");
  check_refused(both(entry("U8", "4", "0,4"), entry("U8", "4", "0,4")), "an overlap");
  check_refused(both(entry("U8", "4", "0,4"), entry("U8", "0", "2,2")), "an overlap");
  check_refused(both(entry("U8", "3", "1,4"), entry("U8", "0", "0,0")), "a hole");
}

TEST_CASE("what is well-formed but beyond this reader", "[safetensors]") {
  for (const char* dtype : {"F8_E4M3", "F8_E5M2", "C64", "f32", "", "U8 "}) {
    const std::string file = container(R"({"a":)" + entry(dtype, "0", "0,0") + "}");
    const std::string found = "F64, found '" + std::string(dtype) + "'";
    check_refused(file, "f: tensor 'a', 'dtype': expected one of U8, ", ErrorCode::kUnsupported);
    check_refused(file, found, ErrorCode::kUnsupported);
  }
  std::string ones = "0";
  for (int rank = 1; rank < 64; ++rank) ones += ",1";
  CHECK(parse(container(R"({"a":)" + entry("U8", ones, "0,0") + "}")).at("a").shape.size() == 64);
  check_refused(container(R"({"a":)" + entry("U8", ones + ",1", "0,0") + "}"),
                "tensor 'a', 'shape': expected at most 64 integers", ErrorCode::kLimit);
}

TEST_CASE("what cannot be written is refused", "[safetensors]") {
  using Tensors = std::map<std::string, TensorView>;
  using Metadata = std::map<std::string, std::string>;
  const auto check = [](const Tensors& tensors, const Metadata& metadata, ErrorCode code) {
    check_error([&] { serialize_safetensors(tensors, metadata); }, code, "safetensors header");
  };
  check({{"\xff", TensorView{DType::kU8, {0}, {}}}}, {}, ErrorCode::kInvalidArgument);
  check({}, {{"a", "\xff"}}, ErrorCode::kInvalidArgument);
  check({}, {{"a", std::string(100'000'000, 'a')}}, ErrorCode::kLimit);
}

TEST_CASE("every truncation and every changed byte", "[safetensors]") {
  const std::vector<std::byte> bytes =
      serialize_safetensors({{"a", TensorView{DType::kF32, {2}, as_bytes("12345678")}},
                             {"b", TensorView{DType::kU8, {3}, as_bytes("xyz")}}},
                            {{"format", "test"}});
  const std::string file(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::size_t data = file.size() - 11;
  CHECK(parse(file).tensors().size() == 2);

  for (std::size_t size = 0; size < file.size(); ++size) {
    INFO("truncated to " << size);
    check_refused(file.substr(0, size), "expected");
  }
  check_refused(file + "x", "expected 11 bytes of tensors, found 12");

  // Each other value: an Error (anything else ends the test), or a file that still makes sense.
  std::size_t valid = 0;
  for (std::size_t at = 0; at < file.size(); ++at) {
    for (int value = 1; value < 256; ++value) {
      std::string changed = file;
      changed[at] = static_cast<char>(changed[at] ^ value);
      try {
        const Safetensors parsed = parse(changed);
        ++valid;
        std::size_t sum = 0;
        for (const auto& [name, view] : parsed.tensors()) sum += view.bytes.size();
        if (sum != 11 || parsed.tensors().size() != 2) FAIL("byte " << at << " ^ " << value);
      } catch (const Error& error) {
        if (at >= data) FAIL("a byte of the data was judged: " << error.what());
        if (std::ranges::any_of(std::string_view(error.what()),
                                [](char c) { return c < 0x20 || c > 0x7e; })) {
          FAIL("unprintable: byte " << at << " ^ " << value);
        }
      }
    }
  }
  CHECK(valid >= 11 * 255);
}

TEST_CASE("only regular files with content are opened", "[safetensors]") {
  const Folder folder;
  std::ofstream(folder / "empty").close();
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  fs::create_directory(folder / "folder");
  const std::pair<const char*, const char*> cases[] = {
      {"empty", "expected a file with content, found it empty"},
      {"pipe", "expected a regular file, found a pipe or device"},
      {"folder", "expected a regular file, found a directory"},
      {"missing", "cannot open: No such file or directory"},
      {"missing/file", "cannot open: No such file or directory"},
  };
  for (const auto& [name, expected] : cases) {
    const fs::path path = folder / name;
    check_error([&] { Safetensors::open(path); }, ErrorCode::kIo, path.string() + ": " + expected);
  }
  check_error([] { Safetensors::open("/dev/zero"); }, ErrorCode::kIo, "found a pipe or device");
  std::ofstream(folder / "text") << "no container";
  check_error([&] { Safetensors::open(folder / "text"); }, ErrorCode::kFormat,
              (folder / "text").string() + ": not a safetensors file");
}

TEST_CASE("a file is replaced as a whole", "[files]") {
  const Folder folder;
  const fs::path path = folder / "file";
  write_file_atomically(path, as_bytes("first, and longer"));
  CHECK(read(path) == "first, and longer");
  write_file_atomically(path, as_bytes("second"));
  CHECK(read(path) == "second");
  write_file_atomically(path, {});
  CHECK(read(path).empty());
  CHECK(folder.files() == 1);

  SECTION("with the mode of ordinary files") {
    const mode_t mask = ::umask(027);
    write_file_atomically(path, as_bytes("x"));
    ::umask(mask);
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0640);
  }
  SECTION("who has it open keeps the old one") {
    write_file_atomically(path, as_bytes("old"));
    std::ifstream reader(path);
    write_file_atomically(path, as_bytes("new"));
    std::string text;
    reader >> text;
    CHECK(text == "old");
  }
  SECTION("a link stays a link") {
    fs::create_symlink("file", folder / "link");
    write_file_atomically(folder / "link", as_bytes("through"));
    CHECK(fs::is_symlink(folder / "link"));
    CHECK(read(path) == "through");
  }
  SECTION("a name as long as names can be, left-overs of another process, a relative path") {
    std::ofstream(folder / (".intaglio-" + std::to_string(::getpid()) + "-0.tmp")) << "left over";
    write_file_atomically(folder / std::string(255, 'n'), as_bytes("x"));
    CHECK(folder.files() == 3);
    const fs::path before = fs::current_path();
    fs::current_path(folder / "");
    write_file_atomically("relative", as_bytes("x"));
    fs::current_path(before);
    CHECK(read(folder / "relative") == "x");
  }
}

TEST_CASE("a failed write leaves the old file and nothing else", "[files]") {
  const Folder folder;
  const fs::path path = folder / "file";
  write_file_atomically(path, as_bytes("old"));

  // A limit on the size of files stands for a full disk.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{1000, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  const Error error = error_of([&] { write_file_atomically(path, std::vector<std::byte>(5000)); });
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, handler);

  CHECK(error.code() == ErrorCode::kIo);
  CHECK(error.what() == path.string() + ": cannot write: File too large");
  CHECK(read(path) == "old");
  CHECK(folder.files() == 1);

  const fs::path nowhere = folder / "none/file";
  check_error([&] { write_file_atomically(nowhere, {}); }, ErrorCode::kIo,
              nowhere.string() + ": cannot create a file beside it: No such file or directory");
  fs::create_directory(folder / "folder");
  check_error([&] { write_file_atomically(folder / "folder", {}); }, ErrorCode::kIo,
              "cannot open: Is a directory");
}

TEST_CASE("devices and pipes are written to, not replaced", "[files]") {
  write_file_atomically("/dev/null", as_bytes("x"));
  CHECK(fs::is_character_file("/dev/null"));
  check_error([] { write_file_atomically("/dev/full", as_bytes("x")); }, ErrorCode::kIo,
              "/dev/full: cannot write: No space left on device");
  const Folder folder;
  const fs::path path = folder / "pipe";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  write_file_atomically(path, as_bytes("through"));
  std::string text(7, ' ');
  CHECK(::read(reader, text.data(), text.size()) == 7);
  ::close(reader);
  CHECK(text == "through");
  CHECK(fs::is_fifo(path));
}

}  // namespace intaglio
