// NumPy archives: a zip archive of .npy files, each a header (a Python dictionary in text) and the
// elements. The format is that of NumPy's documentation of numpy.lib.format.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "converters/checkpoint_source.h"
#include "converters/float_tensor.h"
#include "graph/error.h"

namespace intaglio {
namespace {

constexpr std::string_view kSuffix = ".npy";
constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kMaxHeaderBytes = std::size_t{64} << 10;
constexpr std::size_t kMaxRank = 64;

struct ElementType {
  std::string_view descr;
  DType dtype;
};
constexpr std::array<ElementType, 12> kElementTypes = {{{"<f4", DType::kF32},
                                                        {"<f2", DType::kF16},
                                                        {"<f8", DType::kF64},
                                                        {"|b1", DType::kBool},
                                                        {"|i1", DType::kS8},
                                                        {"|u1", DType::kU8},
                                                        {"<i2", DType::kS16},
                                                        {"<u2", DType::kU16},
                                                        {"<i4", DType::kS32},
                                                        {"<u4", DType::kU32},
                                                        {"<i8", DType::kS64},
                                                        {"<u8", DType::kU64}}};

struct NumpyArray {
  ZipFile::Entry entry;
  std::string descr;
  std::optional<DType> dtype;  // of those above
  bool column_major = false;
  std::vector<std::size_t> shape;
  std::size_t data_offset = 0, data_bytes = 0;
};

/// Reads the header's dictionary, as NumPy writes it: the keys descr, fortran_order and shape, with
/// a string, a bool and a tuple.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& what) : text_(text), what_(what) {}

  void parse(NumpyArray& array) {
    bool has_descr = false, has_order = false, has_shape = false;
    const auto once = [this](bool& seen) {
      if (seen) fail("every key once");
      seen = true;
    };
    expect('{');
    while (!accept('}')) {
      const std::string_view key = parse_string();
      expect(':');
      if (key == "descr") {
        once(has_descr);
        array.descr = next() == '[' ? parse_list() : parse_string();
      } else if (key == "fortran_order") {
        once(has_order);
        array.column_major = parse_bool();
      } else if (key == "shape") {
        once(has_shape);
        array.shape = parse_shape();
      } else {
        fail("no key but descr, fortran_order and shape");
      }
      if (!accept(',') && next() != '}') fail("a comma or the end of the dictionary");
    }
    if (!has_descr || !has_order || !has_shape) fail("descr, fortran_order and shape");
    if (next() != '\0') fail("nothing after the dictionary");
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    throw Error(ErrorCode::kFormat, what_ + ": expected " + expected + " in the header, found " +
                                        printable(text_.substr(std::min(at_, text_.size()))));
  }
  /// The next character that is no space; NUL at the end.
  char next() {
    at_ = std::min(text_.find_first_not_of(" \n", at_), text_.size());
    return at_ == text_.size() ? '\0' : text_[at_];
  }
  bool accept(char c) {
    if (next() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(std::string("'") + c + "'");
  }

  std::string_view parse_string() {
    const char quote = next();
    if (quote != '\'' && quote != '"') fail("a string");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail("the end of a string");
    const std::string_view value = text_.substr(at_ + 1, end - at_ - 1);
    if (value.find('\\') != std::string_view::npos) fail("a string without escapes");
    at_ = end + 1;
    return value;
  }
  /// The text of a list, as elements of several fields have it for their type: such are refused
  /// only when they are read.
  std::string_view parse_list() {
    const std::size_t begin = at_;
    std::size_t depth = 0;
    do {
      if (at_ == text_.size()) fail("the end of a list");
      depth += text_[at_] == '[' ? 1 : 0;
      depth -= text_[at_] == ']' ? 1 : 0;
      ++at_;
    } while (depth != 0);
    return text_.substr(begin, at_ - begin);
  }
  bool parse_bool() {
    next();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return value;
    }
    fail("True or False");
  }
  std::vector<std::size_t> parse_shape() {
    std::vector<std::size_t> shape;
    expect('(');
    while (!accept(')')) {
      if (shape.size() == kMaxRank) fail("at most 64 dimensions");
      next();
      std::size_t n = 0;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), n);
      if (error != std::errc()) fail("a non-negative integer of 64 bits");
      at_ = static_cast<std::size_t>(end - text_.data());
      accept('L');  // as Python 2 wrote it
      shape.push_back(n);
      // A comma makes the tuple; without it, one number in parentheses is a number.
      if (!accept(',') && (next() != ')' || shape.size() == 1)) fail("a comma");
    }
    return shape;
  }

  std::string_view text_;
  const std::string& what_;
  std::size_t at_ = 0;
};

/// The text of the header, and where the elements begin.
std::string read_header(const ZipFile& zip, const std::string& what, NumpyArray& array) {
  const auto fail = [&](const std::string& expected) {
    throw Error(ErrorCode::kFormat, what + ": not a NumPy array: expected " + expected);
  };
  const std::size_t size = array.entry.size;
  if (size < 12) fail("at least 12 bytes, found " + std::to_string(size));
  const std::vector<std::byte> start = zip.read(array.entry, 0, 12);
  if (std::memcmp(start.data(), kMagic.data(), kMagic.size()) != 0) fail("its first bytes");
  const auto version = std::to_integer<unsigned>(start[6]);
  if (version < 1 || version > 3 || start[7] != std::byte{0}) {
    throw Error(ErrorCode::kUnsupported,
                what + ": expected version 1.0, 2.0 or 3.0 of the format, found " +
                    std::to_string(version) + "." + std::to_string(std::to_integer<int>(start[7])));
  }
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  std::uint32_t length = 0;
  std::memcpy(&length, start.data() + 8, length_bytes);
  const std::size_t begin = 8 + length_bytes;
  if (length > kMaxHeaderBytes || length > size - begin) {
    fail("a header within its " + std::to_string(size) + " bytes and of at most " +
         std::to_string(kMaxHeaderBytes) + ", found " + std::to_string(length));
  }
  array.data_offset = begin + length;
  const std::vector<std::byte> header = zip.read(array.entry, begin, length);
  return {reinterpret_cast<const char*>(header.data()), header.size()};
}

NumpyArray open_array(const ZipFile& zip, const ZipFile::Entry& entry, const std::string& what) {
  NumpyArray array;
  array.entry = entry;
  const std::string header = read_header(zip, what, array);
  HeaderParser(header, what).parse(array);
  const auto* type = std::ranges::find(kElementTypes, array.descr, &ElementType::descr);
  if (type == kElementTypes.end()) return array;
  array.dtype = type->dtype;
  const std::size_t element = dtype_size(type->dtype);
  const std::optional<std::size_t> elements = checked_elements(array.shape, element);
  const std::size_t available = entry.size - array.data_offset;
  if (!elements || *elements * element != available) {
    throw Error(ErrorCode::kFormat, what + ": expected as many bytes as its shape needs, found " +
                                        std::to_string(available) + " for " +
                                        describe(TensorView{type->dtype, array.shape, {}}));
  }
  array.data_bytes = available;
  return array;
}

std::vector<float> read_array(const ZipFile& zip, const NumpyArray& array,
                              const std::string& what) {
  if (!array.dtype) {
    throw Error(ErrorCode::kUnsupported,
                what + ": expected '<f4', '<f2' or '<f8', found " + printable(array.descr));
  }
  to_floats(*array.dtype, {}, what);  // a type beyond it is refused before all is read
  const std::vector<float> values =
      to_floats(*array.dtype, zip.read(array.entry, array.data_offset, array.data_bytes), what);
  if (!array.column_major || values.empty()) return values;
  std::vector<std::size_t> strides(array.shape.size(), 1);
  for (std::size_t i = 1; i < strides.size(); ++i) strides[i] = strides[i - 1] * array.shape[i - 1];
  return gather(values, array.shape, strides);
}

}  // namespace

CheckpointSource open_numpy_checkpoint(std::shared_ptr<const ZipFile> zip) {
  CheckpointSource source;
  source.container = "NumPy archive";
  source.file_bytes = zip->file_bytes();
  std::map<std::string, NumpyArray> arrays;
  for (const auto& [file, entry] : zip->entries()) {
    if (!file.ends_with(kSuffix)) continue;
    const std::string tensor = file.substr(0, file.size() - kSuffix.size());
    const std::string what = zip->name() + ": tensor " + printable(tensor);
    NumpyArray array = open_array(*zip, entry, what);
    const std::string type = array.dtype ? std::string(dtype_name(*array.dtype)) : array.descr;
    source.add(tensor, array.shape, type, array.data_bytes, what);
    arrays.emplace(tensor, std::move(array));
  }
  if (arrays.empty()) {
    throw Error(ErrorCode::kUnsupported,
                zip->name() +
                    ": expected data.pkl (PyTorch) or .npy files (NumPy) in the zip "
                    "archive, found neither");
  }
  source.read = [zip, arrays = std::move(arrays)](const std::string& tensor,
                                                  const std::string& what) {
    return read_array(*zip, arrays.at(tensor), what);
  };
  return source;
}

}  // namespace intaglio
