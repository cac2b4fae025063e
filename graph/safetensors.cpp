#include "graph/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "graph/error.h"

namespace intaglio {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxHeaderBytes = 100'000'000;  // of the format
constexpr std::size_t kMaxRank = 16;
constexpr std::size_t kDataAlignment = 64;
constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);

struct DTypeInfo {
  std::string_view name;
  std::size_t size;
};
// In the order of DType.
constexpr std::array<DTypeInfo, 13> kDTypes = {{{"U8", 1},
                                                {"I8", 1},
                                                {"BOOL", 1},
                                                {"U16", 2},
                                                {"I16", 2},
                                                {"F16", 2},
                                                {"BF16", 2},
                                                {"U32", 4},
                                                {"I32", 4},
                                                {"F32", 4},
                                                {"U64", 8},
                                                {"I64", 8},
                                                {"F64", 8}}};

const DTypeInfo& info(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)]; }

/// A name from a file, fit for a message: short, and without control characters.
std::string shown(std::string_view name) {
  constexpr std::size_t kLongest = 120;
  std::string text = "'";
  for (const char c : name.substr(0, kLongest)) {
    text += static_cast<unsigned char>(c) < 32 || c == 127 ? '?' : c;
  }
  return text + (name.size() > kLongest ? "...'" : "'");
}

/// The header's entries as they are written, before any arithmetic on them.
struct Entry {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<std::uint64_t>> shape, offsets;
};

struct Header {
  std::vector<Entry> tensors;
  std::map<std::string, std::string> metadata;
};

/// Reads the header event by event: nothing is built that the format does not allow, whatever the
/// nesting or the numbers. Keys of one object must differ.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  Header header;
  std::string problem;

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a real number"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (array_ == nullptr) return unexpected("a number");
    if (array_->size() >= kMaxRank) return fail(where() + "more than 16 numbers in a list");
    array_->push_back(value);
    return true;
  }
  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) {
      header.metadata[key_] = std::move(text);
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype" || array_ != nullptr) return unexpected("a string");
    header.tensors.back().dtype = std::move(text);
    return true;
  }
  bool start_object(std::size_t) override {
    if (place_ == Place::kOutside) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop) {
      place_ = key_ == "__metadata__" ? Place::kMetadata : Place::kTensor;
      if (place_ == Place::kTensor) header.tensors.push_back({key_, {}, {}, {}});
      keys_.clear();
    } else {
      return unexpected("an object");
    }
    return true;
  }
  bool end_object() override {
    place_ = place_ == Place::kTop ? Place::kDone : Place::kTop;
    return true;
  }
  bool key(string_t& name) override {
    auto& keys = place_ == Place::kTop ? top_keys_ : keys_;
    if (!keys.insert(name).second) return fail(where() + "key " + shown(name) + " occurs twice");
    if (place_ == Place::kTensor && name != "dtype" && name != "shape" && name != "data_offsets") {
      return fail(where() + "unknown key " + shown(name));
    }
    key_ = std::move(name);
    return true;
  }
  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || array_ != nullptr || key_ == "dtype") return unexpected("a list");
    Entry& entry = header.tensors.back();
    array_ = &(key_ == "shape" ? entry.shape : entry.offsets).emplace();
    return true;
  }
  bool end_array() override {
    array_ = nullptr;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const json::exception& e) override {
    // The exception quotes the input; its text may hold anything.
    const bool out_of_range = e.id >= 400;
    return fail("the header is no valid JSON at byte " + std::to_string(position) +
                (out_of_range ? " (a number out of range)" : ""));
  }

 private:
  enum class Place { kOutside, kTop, kMetadata, kTensor, kDone };

  std::string where() const {
    if (place_ == Place::kTensor) return "tensor " + shown(header.tensors.back().name) + ": ";
    if (place_ == Place::kMetadata) return "__metadata__: ";
    return "header: ";
  }
  bool unexpected(const char* what) {
    return fail(where() + what + (key_.empty() ? "" : " as " + shown(key_)) + " is not allowed");
  }
  bool fail(std::string text) {
    problem = std::move(text);
    return false;
  }

  Place place_ = Place::kOutside;
  std::string key_;
  std::set<std::string> top_keys_, keys_;
  std::vector<std::uint64_t>* array_ = nullptr;
};

/// Turns an entry into a view of `data`; errors name file and tensor.
class EntryChecker {
 public:
  EntryChecker(const std::string& file, std::span<const std::byte> data) : file_(file), data_(data) {}

  TensorView check(const Entry& entry) const {
    if (!entry.dtype || !entry.shape || !entry.offsets) {
      fail(entry, std::string(!entry.dtype ? "dtype" : !entry.shape ? "shape" : "data_offsets") +
                      " is missing");
    }
    TensorView view;
    view.dtype = dtype_of(entry);
    std::size_t bytes = dtype_size(view.dtype);
    for (const std::uint64_t n : *entry.shape) {
      if (__builtin_mul_overflow(bytes, n, &bytes)) fail(entry, "the shape overflows");
      view.shape.push_back(n);
    }
    const std::vector<std::uint64_t>& at = *entry.offsets;
    if (at.size() != 2) fail(entry, "data_offsets must be two numbers");
    if (at[0] > at[1] || at[1] > data_.size()) {
      fail(entry, "data_offsets [" + std::to_string(at[0]) + ", " + std::to_string(at[1]) +
                      "] are not within the " + std::to_string(data_.size()) + " bytes of data");
    }
    if (at[1] - at[0] != bytes) {
      fail(entry, "shape and dtype need " + std::to_string(bytes) + " bytes, data_offsets give " +
                      std::to_string(at[1] - at[0]));
    }
    view.bytes = data_.subspan(at[0], bytes);
    return view;
  }

  /// No holes, no overlaps, nothing behind the last tensor.
  void check_cover(const std::vector<Entry>& entries) const {
    std::vector<const Entry*> order;
    for (const Entry& entry : entries) order.push_back(&entry);
    std::sort(order.begin(), order.end(),
              [](const Entry* x, const Entry* y) { return *x->offsets < *y->offsets; });
    std::uint64_t end = 0;
    for (const Entry* entry : order) {
      const std::uint64_t begin = (*entry->offsets)[0];
      if (begin != end) {
        fail(*entry, begin < end ? "its data overlap another tensor's"
                                 : "a hole of " + std::to_string(begin - end) +
                                       " bytes lies before its data");
      }
      end = (*entry->offsets)[1];
    }
    if (end != data_.size()) {
      throw Error(ErrorCode::kFormat, file_ + ": " + std::to_string(data_.size() - end) +
                                          " bytes behind the last tensor");
    }
  }

 private:
  [[noreturn]] void fail(const Entry& entry, const std::string& what) const {
    throw Error(ErrorCode::kFormat, file_ + ": tensor " + shown(entry.name) + ": " + what);
  }
  DType dtype_of(const Entry& entry) const {
    for (std::size_t i = 0; i < kDTypes.size(); ++i) {
      if (kDTypes[i].name == *entry.dtype) return static_cast<DType>(i);
    }
    fail(entry, "unknown dtype " + shown(*entry.dtype));
  }

  const std::string& file_;
  std::span<const std::byte> data_;
};

/// The header's text, without the spaces that may follow the JSON.
std::string_view header_text(std::span<const std::byte> bytes, const std::string& name) {
  const auto fail = [&](const std::string& what) { throw Error(ErrorCode::kFormat, name + ": " + what); };
  if (bytes.size() < kLengthBytes) {
    fail("no safetensors file: " + std::to_string(bytes.size()) + " bytes are too few");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kMaxHeaderBytes) fail("no safetensors file: a header of " + std::to_string(length) + " bytes");
  if (length > bytes.size() - kLengthBytes) {
    fail("truncated: the header has " + std::to_string(length) + " bytes, the file holds " +
         std::to_string(bytes.size() - kLengthBytes) + " of them");
  }
  std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  if (!text.starts_with('{')) fail("no safetensors file: the header does not start with '{'");
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

std::string system_error(const std::filesystem::path& path, const char* what) {
  return path.string() + ": " + what + ": " + std::strerror(errno);
}

/// Closes a descriptor when done.
struct File {
  int fd;
  ~File() {
    if (fd >= 0) ::close(fd);
  }
};

void write_all(int fd, std::span<const std::byte> bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw Error(ErrorCode::kIo, system_error(path, "cannot write"));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

}  // namespace

std::size_t dtype_size(DType dtype) { return info(dtype).size; }
std::string_view dtype_name(DType dtype) { return info(dtype).name; }

std::string describe(const TensorView& tensor) {
  std::string text(dtype_name(tensor.dtype));
  text += " [";
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(tensor.shape[i]);
  }
  return text + "]";
}

template <typename T>
std::vector<T> TensorView::to_vector(std::string_view what) const {
  if (dtype != kDTypeOf<T>) {
    throw Error(ErrorCode::kFormat, "tensor " + shown(what) + ": expected " +
                                        std::string(dtype_name(kDTypeOf<T>)) + ", found " + describe(*this));
  }
  std::vector<T> values(elements());
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}
template std::vector<std::uint8_t> TensorView::to_vector(std::string_view) const;
template std::vector<std::int8_t> TensorView::to_vector(std::string_view) const;
template std::vector<std::int16_t> TensorView::to_vector(std::string_view) const;
template std::vector<std::int32_t> TensorView::to_vector(std::string_view) const;
template std::vector<std::int64_t> TensorView::to_vector(std::string_view) const;
template std::vector<std::uint64_t> TensorView::to_vector(std::string_view) const;
template std::vector<float> TensorView::to_vector(std::string_view) const;

Safetensors Safetensors::open(const std::filesystem::path& path) {
  // Non-blocking: opening a pipe must not wait for a writer.
  const File file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) throw Error(ErrorCode::kIo, system_error(path, "cannot open"));
  struct stat status {};
  if (::fstat(file.fd, &status) != 0) throw Error(ErrorCode::kIo, system_error(path, "cannot stat"));
  if (!S_ISREG(status.st_mode)) throw Error(ErrorCode::kIo, path.string() + ": not a regular file");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) throw Error(ErrorCode::kFormat, path.string() + ": the file is empty");
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) throw Error(ErrorCode::kIo, system_error(path, "cannot map"));
  const std::shared_ptr<const void> owner(data, [size](const void* p) {
    ::munmap(const_cast<void*>(p), size);  // NOLINT: munmap takes what mmap gave
  });
  return parse(owner, {static_cast<const std::byte*>(data), size}, path.string());
}

Safetensors Safetensors::parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                               std::string name) {
  const std::string_view text = header_text(bytes, name);
  HeaderReader reader;
  const bool parsed = json::sax_parse(text.begin(), text.end(), &reader);
  if (!parsed) throw Error(ErrorCode::kFormat, name + ": " + reader.problem);

  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  const auto data = bytes.subspan(kLengthBytes + length);
  Safetensors file;
  const EntryChecker checker(name, data);
  for (const Entry& entry : reader.header.tensors) {
    file.tensors_.emplace(entry.name, checker.check(entry));
  }
  checker.check_cover(reader.header.tensors);
  file.metadata_ = std::move(reader.header.metadata);
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
  if (view == nullptr) throw Error(ErrorCode::kFormat, name_ + ": tensor " + shown(tensor) + " is missing");
  return *view;
}

std::vector<std::byte> serialize_safetensors(const std::map<std::string, TensorView>& tensors,
                                             const std::map<std::string, std::string>& metadata) {
  std::vector<std::pair<std::string, const TensorView*>> order;
  for (const auto& [name, view] : tensors) order.emplace_back(name, &view);
  std::stable_sort(order.begin(), order.end(), [](const auto& x, const auto& y) {
    return dtype_size(x.second->dtype) > dtype_size(y.second->dtype);
  });
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t end = 0;
  for (const auto& [name, view] : order) {
    header[name] = {{"dtype", std::string(dtype_name(view->dtype))},
                    {"shape", view->shape},
                    {"data_offsets", {end, end + view->bytes.size()}}};
    end += view->bytes.size();
  }
  std::string text = header.dump();
  const std::size_t padded = (kLengthBytes + text.size() + kDataAlignment - 1) / kDataAlignment * kDataAlignment;
  text.resize(padded - kLengthBytes, ' ');
  std::vector<std::byte> bytes(padded + end);
  const std::uint64_t length = text.size();
  std::memcpy(bytes.data(), &length, kLengthBytes);
  std::memcpy(bytes.data() + kLengthBytes, text.data(), text.size());
  std::byte* at = bytes.data() + padded;
  for (const auto& [name, view] : order) {
    at = std::copy(view->bytes.begin(), view->bytes.end(), at);
  }
  return bytes;
}

void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    // A device or a pipe: nothing to protect, and it must not be replaced by a file.
    const File file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
    if (file.fd < 0) throw Error(ErrorCode::kIo, system_error(path, "cannot open"));
    return write_all(file.fd, bytes, path);
  }
  std::string temporary = path.string() + ".XXXXXX";
  const File file{::mkostemp(temporary.data(), O_CLOEXEC)};
  if (file.fd < 0) throw Error(ErrorCode::kIo, system_error(path, "cannot create"));
  try {
    write_all(file.fd, bytes, path);
    const mode_t mask = ::umask(0);
    ::umask(mask);
    if (::fchmod(file.fd, 0666 & ~mask) != 0 || ::fsync(file.fd) != 0 ||
        ::rename(temporary.c_str(), path.c_str()) != 0) {
      throw Error(ErrorCode::kIo, system_error(path, "cannot write"));
    }
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

}  // namespace intaglio
