#include "converters/list_tensors.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {
namespace {

struct Statistics {
  float min = 0, max = 0;
  double mean = 0;
};

struct Listed {
  std::optional<Statistics> statistics;  // of floats, unless empty
  std::optional<unsigned long> crc;      // of floats
  std::string error;                     // why they cannot be had
};

bool is_float(const std::string& type) {
  return type == "F32" || type == "F16" || type == "BF16" || type == "F64";
}

/// Fit for a terminal.
std::string unquoted(const std::string& text) {
  const std::string quoted = printable(text);
  return quoted.substr(1, quoted.size() - 2);
}

Listed examine(const Checkpoint& checkpoint, const std::string& tensor) {
  Listed listed;
  if (!is_float(checkpoint.types().at(tensor))) return listed;
  std::vector<float> values;
  try {
    values = checkpoint.read(tensor);
  } catch (const Error& error) {
    listed.error = error.what();
    return listed;
  }
  listed.crc =
      crc32_z(0, reinterpret_cast<const Bytef*>(values.data()), values.size() * sizeof(float));
  if (values.empty()) return listed;
  const auto [min, max] = std::ranges::minmax(values);
  double sum = 0;
  for (const float x : values) sum += static_cast<double>(x);
  listed.statistics = {min, max, sum / static_cast<double>(values.size())};
  return listed;
}

}  // namespace

TensorList list_tensors(const Checkpoint& checkpoint, bool as_json) {
  TensorList list;
  nlohmann::ordered_json tensors = nlohmann::ordered_json::array();
  std::string table = checkpoint.container() + "\n";
  std::size_t width = 0;
  for (const auto& [tensor, shape] : checkpoint.shapes()) {
    width = std::max(width, unquoted(tensor).size());
  }
  for (const auto& [tensor, shape] : checkpoint.shapes()) {
    const Listed listed = examine(checkpoint, tensor);
    const std::string& type = checkpoint.types().at(tensor);
    list.unreadable += listed.error.empty() ? 0 : 1;
    nlohmann::ordered_json entry = {{"name", tensor}, {"type", type}, {"shape", shape}};
    std::string row = fmt::format("{:<{}}  {:<4}  {:<20}", unquoted(tensor), width, unquoted(type),
                                  fmt::format("[{}]", fmt::join(shape, ", ")));
    if (const auto& statistics = listed.statistics) {
      entry["min"] = statistics->min;
      entry["max"] = statistics->max;
      entry["mean"] = statistics->mean;
      row += fmt::format("  min {:<12.6g} max {:<12.6g} mean {:<13.6g}", statistics->min,
                         statistics->max, statistics->mean);
    }
    if (listed.crc) {
      entry["crc32"] = *listed.crc;
      row += fmt::format("  crc32 {:08x}", *listed.crc);
    }
    if (!listed.error.empty()) {
      entry["error"] = listed.error;
      row += "  " + listed.error;
    }
    tensors.push_back(std::move(entry));
    table += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
  }
  const nlohmann::ordered_json all = {{"container", checkpoint.container()},
                                      {"metadata", checkpoint.metadata()},
                                      {"tensors", std::move(tensors)}};
  // Names from a hostile file may be no UTF-8.
  constexpr auto kReplace = nlohmann::ordered_json::error_handler_t::replace;
  list.text = as_json ? all.dump(2, ' ', false, kReplace) + "\n" : table;
  return list;
}

}  // namespace intaglio
