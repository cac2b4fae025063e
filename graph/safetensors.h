// The safetensors container: an 8-byte little-endian header length, a JSON header, raw tensor data.
// It holds calibrated checkpoints, .intg models, logits and the reference data of the tests; this
// is the one validated reader and writer for all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/page_memory.h"

namespace intaglio {

/// Element types of the container. The integers are those of the runtime; floats occur in
/// checkpoints only.
enum class DType : std::uint8_t {  // clang-format off
  kU8, kS8, kBool, kU16, kS16, kF16, kBF16, kU32, kS32, kF32, kU64, kS64, kF64
};  // clang-format on

/// Bytes of one element.
std::size_t dtype_size(DType dtype);
/// The container's name: "U8", "I8", "BOOL", "I64", "F32", ...
std::string_view dtype_name(DType dtype);

/// Maps a C++ type to its DType.
template <typename T>
inline constexpr DType kDTypeOf = [] {
  static_assert(sizeof(T) == 0, "no DType");
  return DType::kU8;
}();
template <>
inline constexpr DType kDTypeOf<std::uint8_t> = DType::kU8;
template <>
inline constexpr DType kDTypeOf<std::int8_t> = DType::kS8;
template <>
inline constexpr DType kDTypeOf<std::uint16_t> = DType::kU16;
template <>
inline constexpr DType kDTypeOf<std::int16_t> = DType::kS16;
template <>
inline constexpr DType kDTypeOf<std::int32_t> = DType::kS32;
template <>
inline constexpr DType kDTypeOf<std::int64_t> = DType::kS64;
template <>
inline constexpr DType kDTypeOf<std::uint64_t> = DType::kU64;
template <>
inline constexpr DType kDTypeOf<float> = DType::kF32;

/// One tensor: type, shape and its bytes, row-major, little-endian, of any alignment. A view into
/// memory owned by somebody else.
struct TensorView {
  DType dtype = DType::kU8;
  std::vector<std::size_t> shape;
  std::span<const std::byte> bytes;

  std::size_t elements() const { return bytes.size() / dtype_size(dtype); }
  /// A copy of the elements. Throws Error(kFormat) that names `what` unless the dtype is T's.
  template <typename T>
  std::vector<T> to_vector(std::string_view what) const;
};

/// "F32 [3, 224, 224]", for messages.
std::string describe(const TensorView& tensor);
/// Text from a file (a tensor's name), fit for a message and a terminal: in quotes, short,
/// printable ASCII; other bytes as \xNN.
std::string printable(std::string_view text);

/// A validated container. Keeps its bytes (a file, mapped or read, or a caller's memory) alive.
/// Every rule of the format holds: no holes or overlaps, each tensor's bytes are what its dtype and
/// shape need.
class Safetensors {
 public:
  /// Maps the file read-only; it must not shrink while it is in use. Throws Error(kIo) unless it is
  /// a regular file with content, and what parse() throws. Never waits for a pipe's writer.
  static Safetensors open(const std::filesystem::path& path);
  /// Reads the file into memory of its own, with up to `threads` threads. Throws what open() does.
  static Safetensors read(const std::filesystem::path& path, std::size_t threads);
  /// Validates `bytes`; `owner` keeps them alive; `name` stands in messages. Throws Error(kFormat),
  /// Error(kUnsupported) for a dtype not listed above, or Error(kLimit) for a rank above 64.
  static Safetensors parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                           std::string name);

  const std::string& name() const { return name_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  /// Null when absent.
  const TensorView* find(std::string_view tensor) const;
  /// Throws Error(kFormat) that names the file and the missing tensor.
  const TensorView& at(std::string_view tensor) const;
  /// The whole file, header included.
  std::span<const std::byte> bytes() const { return bytes_; }
  /// What keeps bytes() alive.
  const std::shared_ptr<const void>& owner() const { return owner_; }
  /// What bytes() lie in after read(), else null.
  const std::shared_ptr<PageMemory>& memory() const { return memory_; }

 private:
  std::string name_;
  std::shared_ptr<const void> owner_;
  std::shared_ptr<PageMemory> memory_;
  std::span<const std::byte> bytes_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, TensorView> tensors_;
};

/// Serializes a container. The data starts at a multiple of 64 bytes; tensors are laid out by
/// descending element size, then by name, so that each is aligned to its element. The header is
/// the same for the same content (sorted keys). Throws Error(kInvalidArgument) unless names and
/// metadata are UTF-8, Error(kLimit) when the header exceeds the format's 100 MB.
std::vector<std::byte> serialize_safetensors(const std::map<std::string, TensorView>& tensors,
                                             const std::map<std::string, std::string>& metadata);

/// A file's bytes in memory, read-only.
struct MappedFile {
  std::shared_ptr<const void> owner;  ///< keeps `bytes` alive
  std::span<const std::byte> bytes;
};

/// Maps a file of any format; it must not shrink while it is in use. Throws Error(kIo) unless it is
/// a regular file with content. Never waits for a pipe's writer.
MappedFile map_file(const std::filesystem::path& path);

/// Writes `bytes` to a temporary file beside `path`, then renames it: `path` is either the old file
/// or the whole new one. Links are followed; a device or pipe is written to directly. Throws
/// Error(kIo), and leaves no temporary file behind.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace intaglio
