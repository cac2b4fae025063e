#include "graph/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace intaglio {
namespace {

std::vector<std::string> input_names(const Graph& graph, const Op& op) {
  std::vector<std::string> names;
  for (const ValueId id : inputs_of(op)) names.push_back(graph.values[id].name);
  return names;
}

const char* short_type(DType dtype) {
  return dtype == DType::kU8 ? "u8" : dtype == DType::kS16 ? "s16" : "s32";
}

std::string shape_text(const Value& value) {
  return fmt::format("{}[{}]", short_type(value.dtype), fmt::join(value.shape, "x"));
}

/// "0.0263 z124 k0:12 k1:169 k2:11": scale, zero point, and how many channels have which exponent.
std::string grid_text(const Grid& grid) {
  std::string text = fmt::format("{:.4g}", grid.scale);
  if (grid.zero_point != 0) text += fmt::format(" z{}", grid.zero_point);
  for (int k = 0; k < 8 && !grid.exponents.empty(); ++k) {
    const auto count = std::count(grid.exponents.begin(), grid.exponents.end(), k);
    if (count != 0) text += fmt::format(" k{}:{}", k, count);
  }
  return text;
}

std::string count_text(std::size_t n) {
  if (n >= 10'000'000) return fmt::format("{:.1f} M", double(n) / 1e6);
  if (n >= 10'000) return fmt::format("{:.1f} k", double(n) / 1e3);
  return n == 0 ? "-" : std::to_string(n);
}

}  // namespace

std::string print(const Graph& graph) {
  const Value& in = graph.values[graph.input];
  const Value& out = graph.values[graph.output];
  const Preprocessing& p = graph.preprocessing;
  std::string text = fmt::format(
      "input   {} RGB {}x{}; shorter side to {} {}, centre crop\n"
      "output  {} {} logits, one unit = {:.6g}; {}\n",
      in.name, in.shape[0], in.shape[1], p.resize,
      p.interpolation == Interpolation::kBicubic ? "bicubic" : "bilinear", out.shape[1],
      short_type(out.dtype), out.grid.scale,
      graph.labels.empty()
          ? std::string("no labels")
          : fmt::format("labels '{}' to '{}'", graph.labels.front(), graph.labels.back()));
  for (const auto& [key, value] : graph.provenance) text += fmt::format("{:<7} {}\n", key, value);

  std::size_t width = 24;
  for (const Op& op : graph.ops) width = std::max(width, op.name.size());
  text += fmt::format("\n{:<{}} {:<12} {:<14} {:<30} {:>9} {:>9}\n", "operation", width, "kind",
                      "result", "grid of the result", "MACs", "bytes");
  std::size_t macs = 0;
  for (const Op& op : graph.ops) {
    const Value& dst = graph.values[result_of(op)];
    macs += multiply_accumulates(graph, op);
    text +=
        fmt::format("{:<{}} {:<12} {:<14} {:<30} {:>9} {:>9}\n", op.name, width,
                    kind_name(op.params), shape_text(dst), grid_text(dst.grid),
                    count_text(multiply_accumulates(graph, op)), count_text(constant_bytes(op)));
  }
  text += fmt::format("{} operations, {:.3f} GMAC, {:.2f} MB of parameters\n", graph.ops.size(),
                      double(macs) / 1e9, double(constant_bytes(graph)) / 1e6);
  return text;
}

std::string print_json(const Graph& graph) {
  nlohmann::json json;
  json["input"] = graph.values[graph.input].shape;
  json["classes"] = graph.values[graph.output].shape[1];
  json["logit_scale"] = graph.values[graph.output].grid.scale;
  json["provenance"] = graph.provenance;
  std::size_t macs = 0;
  for (const Op& op : graph.ops) {
    const Value& dst = graph.values[result_of(op)];
    macs += multiply_accumulates(graph, op);
    json["ops"].push_back({{"name", op.name},
                           {"op", kind_name(op.params)},
                           {"inputs", input_names(graph, op)},
                           {"output", dst.name},
                           {"dtype", short_type(dst.dtype)},
                           {"shape", dst.shape},
                           {"scale", dst.grid.scale},
                           {"zero_point", dst.grid.zero_point},
                           {"exponents", dst.grid.exponents},
                           {"macs", multiply_accumulates(graph, op)},
                           {"bytes", constant_bytes(op)}});
  }
  json["macs"] = macs;
  json["bytes"] = constant_bytes(graph);
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace intaglio
