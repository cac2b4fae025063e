// Checkpoints made to harm: each is an Error or still makes sense, and none costs much.
#include <catch2/catch.hpp>
#include <functional>
#include <random>

#include "converters/checkpoint.h"
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
using test::ZipEntry;
namespace pkl = test::pkl;

using Floats = std::vector<float>;

const std::string kSix = bytes_of(Floats{0, 1, 2, 3, 4, 5});

/// "(n,)"
std::string one_dimension(std::size_t n) {
  std::string shape = "(";
  shape += std::to_string(n);
  return shape += ",)";
}

class Refusals {
 public:
  /// Opening fails with a message that contains `piece`.
  void check(const std::string& file, const std::string& piece,
             ErrorCode code = ErrorCode::kFormat) const {
    const auto path = folder_.write("file", file);
    check_error([&] { Checkpoint::open(path); }, code, piece);
  }
  /// The same for the pickle of the root of a PyTorch file with six floats in storage 0.
  void check_torch(const std::string& root, const std::string& piece,
                   ErrorCode code = ErrorCode::kFormat) const {
    check(torch_file(root, {{"0", kSix}}), piece, code);
  }
  /// The same for its only tensor, 'x'.
  void check_tensor(const std::string& tensor, const std::string& piece,
                    ErrorCode code = ErrorCode::kFormat) const {
    check_torch(pkl::dict(pkl::named({{"x", tensor}})), piece, code);
  }
  /// The same for an only array, 'x'.
  void check_npy(const std::string& array, const std::string& piece,
                 ErrorCode code = ErrorCode::kFormat) const {
    check(zip_archive({{"x.npy", array}}), piece, code);
  }

 private:
  Folder folder_;
};

struct Sample {
  const char* name;
  std::string bytes;
};

/// A small honest file of every container.
std::vector<Sample> samples() {
  const std::string state = pkl::ordered_dict(pkl::named({
      {"module.w", pkl::tensor({.numel = 6, .shape = {3, 2}, .strides = {1, 3}})},
      {"module.b",
       pkl::parameter(pkl::tensor({.numel = 6, .offset = 2, .shape = {3}, .strides = {1}}))},
  }));
  const std::string torch =
      torch_file(pkl::dict(pkl::named({{"model", state}, {"epoch", pkl::integer(3)}})),
                 {{"0", kSix}}, {{"file/byteorder", "little"}});
  const std::string numpy = zip_archive({{"w.npy", npy(npy_header("<f4", "(2, 3)", true), kSix)},
                                         {"b.npy", npy(npy_header("<f4", "(6,)"), kSix), true}});
  const TensorView view{DType::kF32, {6}, std::as_bytes(std::span(kSix.data(), kSix.size()))};
  const std::vector<std::byte> plain = serialize_safetensors({{"w", view}}, {{"a", "b"}});
  return {{"PyTorch", torch},
          {"NumPy", numpy},
          {"safetensors", {reinterpret_cast<const char*>(plain.data()), plain.size()}}};
}

/// Opens and reads everything; how many tensors could be read. Anything but an Error ends the test.
std::size_t read_all(const std::filesystem::path& path) {
  std::size_t read = 0;
  const auto attempt = [](const std::function<void()>& action) {
    try {
      action();
      return true;
    } catch (const Error& error) {
      if (std::ranges::any_of(std::string_view(error.what()),
                              [](char c) { return c < 0x20 || c > 0x7e; })) {
        FAIL("unprintable: " << error.what());
      }
      return false;
    }
  };
  attempt([&] {
    const Checkpoint file = Checkpoint::open(path);
    for (const auto& entry : file.shapes()) {
      read += attempt([&] { file.read(entry.first); }) ? 1 : 0;
    }
  });
  return read;
}

}  // namespace

TEST_CASE("every truncation of a checkpoint", "[checkpoint]") {
  const Folder folder;
  for (const auto& [name, bytes] : samples()) {
    INFO(name);
    CHECK(read_all(folder.write("whole", bytes)) >= 1);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      if (read_all(folder.write("cut", bytes.substr(0, size))) != 0) FAIL("cut to " << size);
    }
  }
}

TEST_CASE("every byte of a checkpoint changed, and many at random", "[checkpoint]") {
  const Folder folder;
  std::mt19937 random(20240607);  // NOLINT: the same every time
  for (const auto& [name, bytes] : samples()) {
    INFO(name);
    std::size_t readable = 0;
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      for (const int flip : {0x01, 0x80, 0xff, static_cast<int>(1 + random() % 255)}) {
        std::string changed = bytes;
        changed[at] = static_cast<char>(changed[at] ^ flip);
        readable += read_all(folder.write("changed", changed)) != 0 ? 1 : 0;
      }
    }
    CHECK(readable > 0);
    CHECK(readable < 4 * bytes.size());
    for (int round = 0; round < 1000; ++round) {
      std::string changed = bytes;
      for (std::size_t n = 2 + random() % 6; n > 0; --n) {
        changed[random() % changed.size()] = static_cast<char>(random());
      }
      read_all(folder.write("changed", changed));
    }
  }
}

TEST_CASE("pickles changed at random, behind a right checksum", "[checkpoint]") {
  const Folder folder;
  std::mt19937 random(7);  // NOLINT: the same every time
  const std::string root = pkl::dict(pkl::named({
      {"w", pkl::tensor({.numel = 6, .shape = {3, 2}, .strides = {1, 3}})},
      {"b", pkl::parameter(pkl::tensor({.numel = 6, .shape = {3}, .strides = {1}}))},
  }));
  std::size_t readable = 0;
  const int rounds = 4000;
  for (int round = 0; round < rounds; ++round) {
    std::string changed = root;
    for (std::size_t n = 1 + random() % 3; n > 0; --n) {
      changed[random() % changed.size()] = static_cast<char>(random());
    }
    readable += read_all(folder.write("changed", torch_file(changed, {{"0", kSix}}))) != 0 ? 1 : 0;
  }
  CHECK(readable > 0);
  CHECK(readable < rounds);
}

TEST_CASE("files of other formats", "[checkpoint]") {
  const Refusals refusals;
  const auto other = [&](const std::string& file, const std::string& piece) {
    refusals.check(file, piece, ErrorCode::kUnsupported);
  };
  refusals.check("", "expected a file with content, found it empty", ErrorCode::kIo);
  other("x", "expected a safetensors file, a zip archive of PyTorch or NumPy (.npz), or");
  other(npy(npy_header("<f4", "(6,)"), kSix), "found none of them");
  other(
      "\x80\x02\x8a\x0al\xfc\x9c"
      "F\xf9 j\xa8P\x19.",
      "found a bare pickle, as PyTorch before 1.6");
  other(pkl::pickle(pkl::dict({})), "torch.save() its state_dict()");
  other(zip_archive({}), "found neither");
  other(zip_archive({{"a.txt", "b"}}), "expected data.pkl (PyTorch) or .npy files (NumPy)");
  other(torch_file(pkl::dict({}), {}, {{"file/constants.pkl", ""}}), "found a TorchScript program");
  other(torch_file(pkl::dict({}), {}, {{"file/code/a.py", ""}}), "torch.jit.load");
  other(torch_file(pkl::dict({}), {}, {{"file/byteorder", "big"}}), "expected little-endian");
}

TEST_CASE("hostile archives", "[checkpoint]") {
  const Refusals refusals;
  const std::string array = npy(npy_header("<f4", "(6,)"), kSix);
  refusals.check(zip_archive({{"a.npy", array}, {"a.npy", array}}), "found twice");
  refusals.check(torch_file(pkl::dict({}), {}, {{"other/data.pkl", "N."}}), "found data.pkl twice");
  refusals.check("PK\3\4" + std::string(100, 'x'), "expected a zip archive, found it damaged");
  // Declared sizes that nothing backs.
  refusals.check(zip_archive({{"a.npy", array, false, 1U << 31}}),
                 "expected data within the file's");
  refusals.check(zip_archive({{"f/data.pkl", "}.", true}}), "expected data.pkl stored",
                 ErrorCode::kLimit);
  refusals.check(torch_file(std::string(17 << 20, 'N'), {}), "expected data.pkl stored, of at most",
                 ErrorCode::kLimit);
  // An array that is nearly all compression.
  const std::size_t elements = 8 << 20;
  const std::string zeros(4 * elements, '\0');
  const std::string shape = one_dimension(elements);
  refusals.check(zip_archive({{"a.npy", npy(npy_header("<f4", shape), zeros), true}}),
                 "expected tensors of at most 16 MiB and 16 times the file's", ErrorCode::kLimit);
  const std::uint32_t claimed = 4U << 28;
  const std::string start = npy(npy_header("<f4", one_dimension(claimed / 4)), "");
  const auto size = static_cast<std::uint32_t>(claimed + start.size());
  refusals.check(zip_archive({{"a.npy", start, true, size}}), "16 times the file's",
                 ErrorCode::kLimit);
  // The same bytes as tensor after tensor.
  pkl::Items many;
  for (int i = 0; i < 100; ++i) {
    many.emplace_back(std::to_string(i),
                      pkl::tensor({.numel = 1 << 20, .shape = {1 << 20}, .strides = {1}}));
  }
  refusals.check(torch_file(pkl::dict(pkl::named(many)), {{"0", std::string(4 << 20, '\0')}}),
                 "found 419430400 bytes", ErrorCode::kLimit);
}

TEST_CASE("archives that are damaged where only reading finds it", "[checkpoint]") {
  const Folder folder;
  const auto check = [&](const std::string& bytes, const std::string& piece) {
    const Checkpoint file = Checkpoint::open(folder.write("file", bytes));
    check_error([&] { file.read("x"); }, ErrorCode::kFormat, piece);
  };
  const std::string array = npy(npy_header("<f4", "(6,)"), kSix);
  const std::string root =
      pkl::dict(pkl::named({{"x", pkl::tensor({.numel = 6, .shape = {6}, .strides = {1}})}}));
  const ZipEntry pickle{"f/data.pkl", pkl::pickle(root)};
  check(zip_archive({pickle, {"f/data/0", kSix, false, {}, false}}),
        "entry 'f/data/0': expected 24 bytes from byte 0 on, found it damaged: CRC error");
  check(zip_archive({{"x.npy", array, true, {}, false}}), "found it damaged: CRC error");
  // Shorter and longer than declared.
  const std::string longer = npy(npy_header("<f4", "(7,)"), kSix);
  const auto size = static_cast<std::uint32_t>(array.size());
  check(zip_archive({{"x.npy", longer, true, size + 4}}), "found it damaged");
  check(zip_archive({{"x.npy", array + "more", true, size}}), "found it damaged");
}

TEST_CASE("tensors that do not fit their storage", "[checkpoint]") {
  const Refusals refusals;
  const auto check = [&](const pkl::Tensor& tensor, const std::string& piece) {
    refusals.check_tensor(pkl::tensor(tensor), piece);
  };
  constexpr std::int64_t kHuge = INT64_MAX;
  const std::string beyond = "tensor 'x': expected all elements within the 6 of its storage";
  check({.numel = 6, .offset = 1, .shape = {6}, .strides = {1}}, beyond);
  check({.numel = 6, .offset = 6}, beyond);
  check({.numel = 6, .shape = {2, 3}, .strides = {4, 1}}, beyond);
  check({.numel = 6, .offset = kHuge, .shape = {2}, .strides = {kHuge}}, beyond);
  check({.numel = 6, .shape = {3}, .strides = {kHuge}}, beyond);
  check({.numel = 6, .offset = kHuge, .shape = {2, 2}, .strides = {kHuge, 3}}, beyond);
  check({.numel = 6, .offset = -1, .shape = {6}, .strides = {1}},
        "expected a non-negative integer");
  check({.numel = 6, .shape = {-6}, .strides = {1}}, "expected a non-negative integer");
  check({.numel = 6, .shape = {6}, .strides = {-1}}, "expected a non-negative integer");
  check({.numel = 6, .shape = {2, 3}, .strides = {1}}, "expected a stride per dimension");
  check({.numel = 6, .shape = {7}, .strides = {0}}, "at most the 6 elements of its storage");
  check({.numel = 6, .shape = {kHuge, kHuge}, .strides = {0, 0}}, "at most the 6 elements");
  check({.numel = 6, .shape = {1L << 32, 1L << 32}, .strides = {0, 0}}, "at most the 6 elements");
  check({.numel = 6, .shape = {1L << 62}, .strides = {0}}, "at most the 6 elements");
  check({.numel = 7, .shape = {6}, .strides = {1}},
        "expected a storage of 7 elements of 4 bytes, found 24 bytes");
  check({.numel = kHuge, .shape = {6}, .strides = {1}}, "expected a storage of");
  check({.storage = "DoubleStorage", .numel = 6}, "6 elements of 8 bytes, found 24 bytes");
  check({.key = "1"}, "tensor 'x': its storage '1' is missing");
  check({.key = "../data.pkl"}, "its storage '../data.pkl' is missing");
  check({.shape = std::vector<std::int64_t>(65, 1), .strides = std::vector<std::int64_t>(65, 1)},
        "expected at most 64 dimensions, found 65");
}

TEST_CASE("tensors that are no tensors", "[checkpoint]") {
  const Refusals refusals;
  const std::string rebuild = pkl::global("torch._utils", "_rebuild_tensor_v2");
  const std::string shape = pkl::integers({6});
  refusals.check_tensor(rebuild + "NR", "expected a tuple of arguments, found None");
  refusals.check_tensor(rebuild + ")R", "expected more arguments");
  refusals.check_tensor(pkl::call(rebuild, {"N", "N", "N", "N"}), "a storage, found None");
  const auto with_id = [&](const std::string& id) {
    return pkl::call(rebuild, {id + "Q", pkl::integer(0), shape, pkl::integers({1})});
  };
  refusals.check_tensor(with_id(pkl::text("0")), "expected a storage's id, found a string");
  refusals.check_tensor(with_id(pkl::tuple({"N", "N"})), "expected a storage's id, found a tuple");
  const std::string type = pkl::global("torch", "FloatStorage");
  refusals.check_tensor(with_id(pkl::tuple({"N", type, pkl::integer(0), "N", pkl::integer(6)})),
                        "expected a storage's name, found an integer");
  refusals.check_tensor(with_id(pkl::tuple({"N", type, pkl::text("0"), "N", "N"})),
                        "expected a non-negative integer of 64 bits, found None");
  const std::string id = pkl::tuple({"N", type, pkl::text("0"), "N", pkl::integer(6)}) + "Q";
  refusals.check_tensor(pkl::call(rebuild, {id, pkl::integer(0), pkl::list({}), shape}),
                        "expected a tuple of sizes, found a list");
  // Parameters within parameters, and a dictionary that holds itself.
  std::string nested = pkl::tensor({.numel = 6, .offset = 9});
  for (int i = 0; i < 1000; ++i)
    nested = pkl::global("torch._utils", "_rebuild_parameter") + nested + "\x85R";
  refusals.check_tensor(nested, "expected all elements within");
  refusals.check_torch("}q\1" + pkl::text("model") + "h\1s", "found 'model' (a dictionary)");
}

TEST_CASE("hostile names", "[checkpoint]") {
  const Refusals refusals;
  const std::string tensor = pkl::tensor({});
  const std::string x = pkl::text("x");
  refusals.check_torch(pkl::dict({{x, tensor}, {x, tensor}}), "'x': expected once, found twice");
  refusals.check_torch(pkl::dict({{x, tensor}, {x, "N"}}), "'x': expected once, found twice");
  refusals.check_torch(pkl::dict({{x, tensor}, {pkl::integer(3), tensor}}),
                       "under an integer: expected a string as the name of a tensor");
  refusals.check_torch(pkl::dict({{"]", tensor}}), "under a list: expected a string");
  refusals.check_torch(pkl::dict({{pkl::text("a\x1b[2J"), pkl::tensor({.key = "\n"})}}),
                       "tensor 'a\\x1b[2J': its storage '\\x0a' is missing");
  const Folder folder;
  const Checkpoint file = Checkpoint::open(
      folder.write("file", torch_file(pkl::dict({{pkl::text(""), tensor},
                                                 {pkl::text("module."), tensor},
                                                 {pkl::text(std::string("a\0b", 3)), tensor},
                                                 {pkl::integer(3), "N"}}),
                                      {{"0", kSix}})));
  CHECK(file.shapes().size() == 3);
  CHECK(file.read(std::string("a\0b", 3)) == Floats{0});
}

TEST_CASE("hostile arrays", "[checkpoint]") {
  const Refusals refusals;
  const auto check_header = [&](const std::string& header, const std::string& piece) {
    refusals.check_npy(npy(header, kSix), piece);
  };
  refusals.check_npy("", "tensor 'x': not a NumPy array: expected at least 12 bytes, found 0");
  refusals.check_npy(std::string(100, 'x'), "expected its first bytes");
  refusals.check_npy(npy("", ""), "expected at least 12 bytes");
  refusals.check_npy(npy(npy_header("<f4", "(6,)"), kSix, 4), "found 4.0", ErrorCode::kUnsupported);
  refusals.check_npy(npy(std::string(70000, ' '), kSix, 2), "of at most 65536, found 70000");
  refusals.check_npy(std::string("\x93NUMPY\2\0\xff\xff\xff\xff", 12), "found 4294967295");
  check_header("", "expected '{'");
  check_header("{}", "expected descr, fortran_order and shape in the header");
  check_header("{'descr': '<f4', 'shape': (6,)}", "expected descr, fortran_order and shape");
  check_header("{'descr': '<f4', 'descr': '<f4'}", "expected every key once");
  check_header("{'color': 'red'}", "expected no key but descr");
  check_header("{'descr': 3}", "expected a string");
  check_header("{'descr': '<f4", "expected the end of a string");
  check_header("{'descr': 'a\\'b'}", "expected a string without escapes");
  check_header("{'descr': [[[", "expected the end of a list");
  check_header("{'fortran_order': 1}", "expected True or False");
  check_header("{'descr': '<f4' 'shape': (6,)}", "expected a comma or the end");
  check_header(npy_header("<f4", "(6,)") + "x", "expected nothing after the dictionary");
  check_header(npy_header("<f4", "6"), "expected '('");
  check_header(npy_header("<f4", "(6)"), "expected a comma");
  check_header(npy_header("<f4", "(-6,)"), "expected a non-negative integer");
  check_header(npy_header("<f4", "(6.0,)"), "expected a comma");
  check_header(npy_header("<f4", "(18446744073709551616,)"), "integer of 64 bits");
  check_header(npy_header("<f4", "(5,)"), "found 24 for F32 [5]");
  check_header(npy_header("<f4", "(7,)"), "found 24 for F32 [7]");
  check_header(npy_header("<f4", "(4611686018427387910,)"), "found 24 for");  // 24 modulo 2^64
  check_header(npy_header("<f4", "(4294967296, 4294967296)"), "found 24 for");
  std::string ones = "(";
  for (int i = 0; i < 65; ++i) ones += "1,";
  check_header(npy_header("<f4", ones + ")"), "expected at most 64 dimensions");
}

}  // namespace intaglio
