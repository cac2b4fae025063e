// Writers of the files that readers of checkpoints meet, honest or not: every byte is the test's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace intaglio::test {

/// The bytes of a value, or of several, little-endian.
template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

struct ZipEntry {
  std::string name, data;
  bool deflated = false;
  std::optional<std::uint32_t> declared_size = {};  ///< instead of the size of the data
  bool right_checksum = true;
};

/// A zip archive.
std::string zip_archive(const std::vector<ZipEntry>& entries);

/// A .npy file. `header` is the dictionary.
std::string npy(const std::string& header, const std::string& data, int version = 1);
/// The usual dictionary: npy_header("<f4", "(2, 3)").
std::string npy_header(const std::string& descr, const std::string& shape, bool fortran = false);

/// Pieces of pickles, protocol 2; each leaves one value on the stack.
namespace pkl {

std::string integer(std::int64_t value);
std::string text(std::string_view value);
std::string global(const std::string& module, const std::string& name);
std::string tuple(const std::vector<std::string>& items);
std::string integers(const std::vector<std::int64_t>& items);  ///< a tuple
std::string list(const std::vector<std::string>& items);
std::string call(const std::string& function, const std::vector<std::string>& arguments);

using Items = std::vector<std::pair<std::string, std::string>>;
/// Keys and values are pickles; {"key", value} with text keys: see named().
std::string dict(const Items& items);
std::string ordered_dict(const Items& items);
/// The same with plain names as keys.
Items named(Items items);

struct Tensor {
  std::string storage = "FloatStorage";
  std::string key = "0";
  std::int64_t numel = 1;
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape = {}, strides = {};
};
std::string tensor(const Tensor& tensor);
std::string parameter(const std::string& tensor);

/// The whole pickle of a value.
std::string pickle(const std::string& value);

}  // namespace pkl

/// A file of torch.save(): the pickle of `root`, and storages by key.
std::string torch_file(const std::string& root,
                       const std::vector<std::pair<std::string, std::string>>& storages,
                       const std::vector<ZipEntry>& others = {});

}  // namespace intaglio::test
