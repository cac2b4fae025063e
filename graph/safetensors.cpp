#include "graph/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "graph/error.h"

namespace intaglio {
namespace {

using nlohmann::json;
using Shape = std::vector<std::size_t>;
using Tensors = std::map<std::string, TensorView>;
using Metadata = std::map<std::string, std::string>;

static_assert(std::endian::native == std::endian::little, "the container is little-endian");

constexpr std::size_t kMaxHeaderBytes = 100'000'000;  // of the format
constexpr std::size_t kMaxRank = 64;                  // of every framework that writes such files
constexpr std::size_t kDataAlignment = 64;
constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);
constexpr std::string_view kMetadataKey = "__metadata__";

// In the order of DType.
constexpr std::array<std::string_view, 13> kDTypeNames = {
    "U8", "I8", "BOOL", "U16", "I16", "F16", "BF16", "U32", "I32", "F32", "U64", "I64", "F64"};
constexpr std::array<std::size_t, 13> kDTypeSizes = {1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 8};

/// Nothing when the product does not fit.
std::optional<std::size_t> bytes_of(DType dtype, const Shape& shape) {
  std::size_t bytes = dtype_size(dtype);
  for (const std::size_t n : shape) {
    if (__builtin_mul_overflow(bytes, n, &bytes)) return std::nullopt;
  }
  return bytes;
}

/// Builds tensors and metadata while the header is parsed. Whatever the format does not allow ends
/// the parse at once, so depth is bounded and memory is a small multiple of the header.
class HeaderReader {
 public:
  HeaderReader(const std::string& file, std::span<const std::byte> data, Tensors& tensors,
               Metadata& metadata)
      : file_(file), data_(data), tensors_(tensors), metadata_(metadata) {}

  // The parser's events. None returns false: they throw.
  bool null() { unexpected("null"); }
  bool boolean(bool value) { unexpected(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) { unexpected(std::to_string(value)); }
  bool number_float(double, const std::string& text) { unexpected(printable(text)); }
  bool binary(json::binary_t&) { unexpected("binary data"); }
  bool number_unsigned(std::uint64_t value) {
    if (list_ == nullptr) unexpected(std::to_string(value));
    if (list_->size() == kMaxRank) {
      fail("expected at most " + std::to_string(kMaxRank) + " integers, found more",
           ErrorCode::kLimit);
    }
    list_->push_back(value);
    return true;
  }
  bool string(std::string& text) {
    if (place_ == Place::kMetadata) {
      metadata_.emplace(key_, std::move(text));
    } else if (place_ == Place::kTensor && list_ == nullptr && key_ == "dtype") {
      dtype_ = parse_dtype(text);
    } else {
      unexpected("the string " + printable(text));
    }
    return true;
  }
  bool start_array(std::size_t) {
    if (place_ != Place::kTensor || list_ != nullptr || key_ == "dtype") unexpected("a list");
    list_ = &(key_ == "shape" ? shape_ : data_offsets_).emplace();
    return true;
  }
  bool end_array() {
    list_ = nullptr;
    return true;
  }
  bool start_object(std::size_t) {
    if (place_ == Place::kFile) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop) {
      place_ = name_ == kMetadataKey ? Place::kMetadata : Place::kTensor;
    } else {
      unexpected("an object");
    }
    return true;
  }
  bool end_object() {
    if (place_ == Place::kTensor) add_tensor();
    place_ = Place::kTop;
    key_.clear();
    return true;
  }
  bool key(std::string& key) {
    (place_ == Place::kTop ? name_ : key_) = std::move(key);
    if (place_ == Place::kTensor && key_ != "dtype" && key_ != "shape" && key_ != "data_offsets") {
      fail("expected no key but dtype, shape and data_offsets, found another");
    }
    if (is_known()) fail("expected once, found twice");
    has_metadata_ |= place_ == Place::kTop && name_ == kMetadataKey;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const json::exception&) {
    // The exception's own text quotes the file.
    throw Error(ErrorCode::kFormat, file_ + ": expected valid JSON, found an error at byte " +
                                        std::to_string(position) + " of the header");
  }

 private:
  enum class Place { kFile, kTop, kMetadata, kTensor };

  [[noreturn]] void fail(const std::string& what, ErrorCode code = ErrorCode::kFormat) const {
    const std::string subject =
        name_ == kMetadataKey ? std::string(kMetadataKey) : "tensor " + printable(name_);
    throw Error(
        code, file_ + ": " + subject + (key_.empty() ? "" : ", " + printable(key_)) + ": " + what);
  }
  [[noreturn]] void unexpected(const std::string& found) const {
    const char* expected = "a list of non-negative integers";
    if (place_ == Place::kTop) expected = "an object";
    if (place_ == Place::kMetadata || key_ == "dtype") expected = "a string";
    if (list_ != nullptr) expected = "a non-negative integer";
    fail(std::string("expected ") + expected + ", found " + found);
  }

  /// Whether the current key stood in its object before.
  bool is_known() const {
    if (place_ == Place::kMetadata) return metadata_.contains(key_);
    if (place_ == Place::kTop) {
      return name_ == kMetadataKey ? has_metadata_ : tensors_.contains(name_);
    }
    return key_ == "dtype" ? dtype_.has_value()
                           : (key_ == "shape" ? shape_ : data_offsets_).has_value();
  }

  DType parse_dtype(std::string_view name) const {
    std::string known;
    for (std::size_t i = 0; i < kDTypeNames.size(); ++i) {
      if (kDTypeNames[i] == name) return static_cast<DType>(i);
      known += std::string(kDTypeNames[i]) + (i + 1 < kDTypeNames.size() ? ", " : "");
    }
    fail("expected one of " + known + ", found " + printable(name), ErrorCode::kUnsupported);
  }

  /// The tensor whose object just ended.
  void add_tensor() {
    key_.clear();
    if (!dtype_) fail("expected a dtype, found none");
    if (!shape_) fail("expected a shape, found none");
    if (!data_offsets_) fail("expected data_offsets, found none");
    TensorView view{*dtype_, std::move(*shape_), {}};
    const Shape offsets = std::move(*data_offsets_);
    dtype_.reset();
    shape_.reset();
    data_offsets_.reset();

    const std::optional<std::size_t> size = bytes_of(view.dtype, view.shape);
    if (!size) fail("expected a size of less than 2^64 bytes, found " + describe(view));
    if (offsets.size() != 2) {
      fail("expected 2 data_offsets, found " + std::to_string(offsets.size()));
    }
    const auto [begin, end] = std::pair(offsets[0], offsets[1]);
    const std::string found =
        ", found data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) + "]";
    if (begin > end || end > data_.size()) {
      fail("expected data within " + std::to_string(data_.size()) + " bytes" + found);
    }
    if (end - begin != *size) {
      fail("expected " + std::to_string(*size) + " bytes for " + describe(view) + found);
    }
    view.bytes = data_.subspan(begin, *size);
    tensors_.emplace(std::move(name_), std::move(view));
  }

  const std::string& file_;
  std::span<const std::byte> data_;
  Tensors& tensors_;
  Metadata& metadata_;

  Place place_ = Place::kFile;
  std::string name_;  // the key in the header
  std::string key_;   // the key within its object; empty outside
  bool has_metadata_ = false;
  std::optional<DType> dtype_;
  std::optional<Shape> shape_, data_offsets_;
  Shape* list_ = nullptr;  // the one that is being read
};

/// No holes, no overlaps, nothing behind the last tensor.
void check_cover(const std::string& file, std::span<const std::byte> data, const Tensors& tensors) {
  std::vector<const Tensors::value_type*> order;
  order.reserve(tensors.size());
  for (const auto& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto* x, const auto* y) {
    return std::pair(x->second.bytes.data(), x->second.bytes.size()) <
           std::pair(y->second.bytes.data(), y->second.bytes.size());
  });
  std::size_t end = 0;
  for (const auto* tensor : order) {
    const auto begin = static_cast<std::size_t>(tensor->second.bytes.data() - data.data());
    if (begin != end) {
      throw Error(ErrorCode::kFormat, file + ": tensor " + printable(tensor->first) +
                                          ": expected data from byte " + std::to_string(end) +
                                          " on, found " + (begin < end ? "an overlap" : "a hole") +
                                          ": they start at " + std::to_string(begin));
    }
    end += tensor->second.bytes.size();
  }
  if (end != data.size()) {
    throw Error(ErrorCode::kFormat, file + ": expected " + std::to_string(end) +
                                        " bytes of tensors, found " + std::to_string(data.size()));
  }
}

/// What the JSON parser would let pass or be slow at: it takes a NUL for the end of its input, and
/// collects a number of any length before it judges it.
void check_text(const std::string& file, std::string_view text) {
  constexpr std::size_t kLongestNumber = 32;
  bool in_string = false;
  std::size_t token = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') in_string = !in_string;
    if (c == '\\' && in_string) ++i;  // what follows ends no string
    const bool number = (c >= '0' && c <= '9') || c == '.';
    token = number && !in_string ? token + 1 : 0;
    if (c == '\0' || token > kLongestNumber) {
      throw Error(ErrorCode::kFormat, file + ": expected valid JSON, found " +
                                          (c == '\0' ? "a NUL" : "an endless number") +
                                          " at byte " + std::to_string(i) + " of the header");
    }
  }
}

struct Sections {
  std::string_view header;
  std::span<const std::byte> data;
};

/// Takes the file apart. The header comes without the spaces that pad it.
Sections split(const std::string& file, std::span<const std::byte> bytes) {
  const auto fail = [&](const std::string& expected, const std::string& found) {
    throw Error(ErrorCode::kFormat,
                file + ": not a safetensors file: expected " + expected + ", found " + found);
  };
  if (bytes.size() < kLengthBytes) fail("at least 8 bytes", std::to_string(bytes.size()));
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  const std::span<const std::byte> rest = bytes.subspan(kLengthBytes);
  if (length > kMaxHeaderBytes) {
    fail("a header of at most " + std::to_string(kMaxHeaderBytes) + " bytes",
         std::to_string(length));
  }
  if (length > rest.size()) {
    fail("a header of " + std::to_string(length) + " bytes",
         "a file that ends " + std::to_string(length - rest.size()) + " bytes before its end");
  }
  std::string_view text(reinterpret_cast<const char*>(rest.data()), length);
  text = text.substr(0, text.find_last_not_of(' ') + 1);
  if (!text.starts_with('{')) fail("a header that starts with '{'", printable(text.substr(0, 1)));
  if (!text.ends_with('}')) {
    fail("a header that ends with '}'", printable(text.substr(text.size() - 1)));
  }
  return {text, rest.subspan(length)};
}

}  // namespace

std::size_t dtype_size(DType dtype) {
  return kDTypeSizes[static_cast<std::size_t>(dtype)];
}
std::string_view dtype_name(DType dtype) {
  return kDTypeNames[static_cast<std::size_t>(dtype)];
}

std::string describe(const TensorView& tensor) {
  std::string text(dtype_name(tensor.dtype));
  text += " [";
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(tensor.shape[i]);
  }
  return text + "]";
}

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  std::string shown = "'";
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 32 && byte < 127) {
      shown += c;
    } else {
      shown += {'\\', 'x', "0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
    }
  }
  return shown + (text.size() > kLongest ? "...'" : "'");
}

template <typename T>
std::vector<T> TensorView::to_vector(std::string_view what) const {
  if (dtype != kDTypeOf<T>) {
    throw Error(ErrorCode::kFormat, "tensor " + printable(what) + ": expected " +
                                        std::string(dtype_name(kDTypeOf<T>)) + ", found " +
                                        describe(*this));
  }
  std::vector<T> values(elements());
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}
template std::vector<std::uint8_t> TensorView::to_vector(std::string_view) const;
template std::vector<std::int8_t> TensorView::to_vector(std::string_view) const;
template std::vector<std::int16_t> TensorView::to_vector(std::string_view) const;
template std::vector<std::int32_t> TensorView::to_vector(std::string_view) const;
template std::vector<std::int64_t> TensorView::to_vector(std::string_view) const;
template std::vector<std::uint64_t> TensorView::to_vector(std::string_view) const;
template std::vector<float> TensorView::to_vector(std::string_view) const;

Safetensors Safetensors::parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                               std::string name) {
  const auto [header, data] = split(name, bytes);
  check_text(name, header);
  Safetensors file;
  HeaderReader reader(name, data, file.tensors_, file.metadata_);
  json::sax_parse(header.begin(), header.end(), &reader);
  check_cover(name, data, file.tensors_);
  file.name_ = std::move(name);
  file.owner_ = std::move(owner);
  file.bytes_ = bytes;
  return file;
}

const TensorView* Safetensors::find(std::string_view tensor) const {
  const auto it = tensors_.find(std::string(tensor));
  return it == tensors_.end() ? nullptr : &it->second;
}

const TensorView& Safetensors::at(std::string_view tensor) const {
  const TensorView* view = find(tensor);
  if (view == nullptr) {
    throw Error(ErrorCode::kFormat, name_ + ": tensor " + printable(tensor) + " is missing");
  }
  return *view;
}

std::vector<std::byte> serialize_safetensors(const Tensors& tensors, const Metadata& metadata) {
  std::vector<const Tensors::value_type*> order;
  for (const auto& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const auto* x, const auto* y) {
    return dtype_size(x->second.dtype) > dtype_size(y->second.dtype);
  });
  json header = json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  std::size_t end = 0;
  for (const auto* tensor : order) {
    const auto& [name, view] = *tensor;
    assert(name != kMetadataKey && view.shape.size() <= kMaxRank &&
           bytes_of(view.dtype, view.shape) == view.bytes.size());
    header[name] = {{"dtype", dtype_name(view.dtype)},
                    {"shape", view.shape},
                    {"data_offsets", {end, end + view.bytes.size()}}};
    end += view.bytes.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    throw Error(ErrorCode::kInvalidArgument,
                "safetensors header: expected names and metadata in UTF-8, found other bytes");
  }
  const std::size_t unpadded = kLengthBytes + text.size();
  const std::size_t begin = (unpadded + kDataAlignment - 1) / kDataAlignment * kDataAlignment;
  text.resize(begin - kLengthBytes, ' ');
  if (text.size() > kMaxHeaderBytes) {
    throw Error(ErrorCode::kLimit, "safetensors header: expected at most " +
                                       std::to_string(kMaxHeaderBytes) + " bytes, found " +
                                       std::to_string(text.size()));
  }
  std::vector<std::byte> bytes(begin + end);
  const std::uint64_t length = text.size();
  std::memcpy(bytes.data(), &length, kLengthBytes);
  std::memcpy(bytes.data() + kLengthBytes, text.data(), text.size());
  auto at = bytes.begin() + static_cast<std::ptrdiff_t>(begin);
  for (const auto* tensor : order) {
    at = std::copy(tensor->second.bytes.begin(), tensor->second.bytes.end(), at);
  }
  return bytes;
}

}  // namespace intaglio
