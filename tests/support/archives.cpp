#include "tests/support/archives.h"

#include <zlib.h>

#include <catch2/catch.hpp>

namespace intaglio::test {
namespace {

template <typename T>
std::string little(T value) {
  return bytes_of(std::vector<T>{value});
}
std::string u16(std::size_t value) {
  return little(static_cast<std::uint16_t>(value));
}
std::string u32(std::size_t value) {
  return little(static_cast<std::uint32_t>(value));
}

/// Without zlib's own header, as zip archives hold it.
std::string deflate_raw(const std::string& data) {
  z_stream stream{};
  REQUIRE(::deflateInit2(&stream, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(::deflateBound(&stream, data.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(::deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  ::deflateEnd(&stream);
  return packed;
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += item;
  return text;
}

}  // namespace

std::string zip_archive(const std::vector<ZipEntry>& entries) {
  std::string file, directory;
  for (const ZipEntry& entry : entries) {
    const std::string packed = entry.deflated ? deflate_raw(entry.data) : entry.data;
    const std::size_t crc =
        crc32_z(0, reinterpret_cast<const Bytef*>(entry.data.data()), entry.data.size()) ^
        (entry.right_checksum ? 0U : 1U);
    // Flags, method, time, date, checksum, sizes, length of the name, of the extra field.
    const std::string common =
        u16(0) + u16(entry.deflated ? 8 : 0) + u32(0) + u32(crc) + u32(packed.size()) +
        u32(entry.declared_size.value_or(static_cast<std::uint32_t>(entry.data.size()))) +
        u16(entry.name.size()) + u16(0);
    directory += std::string("PK\1\2") + u16(20) + u16(20) + common + u16(0) + u16(0) + u16(0) +
                 u32(0) + u32(file.size()) + entry.name;
    file += std::string("PK\3\4") + u16(20) + common + entry.name + packed;
  }
  return file + directory + "PK\5\6" + u32(0) + u16(entries.size()) + u16(entries.size()) +
         u32(directory.size()) + u32(file.size()) + u16(0);
}

std::string npy(const std::string& header, const std::string& data, int version) {
  const std::string length = version == 1 ? u16(header.size()) : u32(header.size());
  return std::string("\x93NUMPY") + static_cast<char>(version) + '\0' + length + header + data;
}
std::string npy_header(const std::string& descr, const std::string& shape, bool fortran) {
  return joined({"{'descr': '", descr, "', 'fortran_order': ", fortran ? "True" : "False",
                 ", 'shape': ", shape, ", }          \n"});
}

namespace pkl {

std::string integer(std::int64_t value) {
  return joined({"\x8a\x08", little(value)});  // LONG1
}
std::string text(std::string_view value) {
  return joined({"X", u32(value.size()), std::string(value)});
}
std::string global(const std::string& module, const std::string& name) {
  return joined({"c", module, "\n", name, "\n"});
}
std::string tuple(const std::vector<std::string>& items) {
  return joined({"(", joined(items), "t"});
}
std::string integers(const std::vector<std::int64_t>& items) {
  std::vector<std::string> pickled;
  for (const std::int64_t item : items) pickled.push_back(integer(item));
  return tuple(pickled);
}
std::string list(const std::vector<std::string>& items) {
  return joined({"](", joined(items), "e"});
}
std::string call(const std::string& function, const std::vector<std::string>& arguments) {
  return function + tuple(arguments) + "R";
}

namespace {
std::string filled(const std::string& empty, const Items& items) {
  std::string text = empty + "(";
  for (const auto& [key, value] : items) text += key + value;
  return text + "u";
}
}  // namespace

std::string dict(const Items& items) {
  return filled("}", items);
}
std::string ordered_dict(const Items& items) {
  return filled(global("collections", "OrderedDict") + ")R", items);
}
Items named(Items items) {
  for (auto& [key, value] : items) key = text(key);
  return items;
}

std::string tensor(const Tensor& tensor) {
  const std::string id = tuple({text("storage"), global("torch", tensor.storage), text(tensor.key),
                                text("cpu"), integer(tensor.numel)});
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              {id + "Q", integer(tensor.offset), integers(tensor.shape), integers(tensor.strides),
               "\x89", ordered_dict({})});
}
std::string parameter(const std::string& tensor) {
  return call(global("torch._utils", "_rebuild_parameter"), {tensor, "\x88", ordered_dict({})});
}

std::string pickle(const std::string& value) {
  return joined({"\x80\x02", value, "."});
}

}  // namespace pkl

std::string torch_file(const std::string& root,
                       const std::vector<std::pair<std::string, std::string>>& storages,
                       const std::vector<ZipEntry>& others) {
  std::vector<ZipEntry> entries = {{"file/data.pkl", pkl::pickle(root)}};
  for (const auto& [key, data] : storages) entries.push_back({"file/data/" + key, data});
  entries.insert(entries.end(), others.begin(), others.end());
  return zip_archive(entries);
}

}  // namespace intaglio::test
