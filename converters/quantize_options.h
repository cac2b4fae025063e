// The command line of intaglio-convert quantize.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "converters/float_import.h"

namespace intaglio {

struct QuantizeArguments {
  std::filesystem::path checkpoint, model, labels, eval, report, report_json;
  std::string key;
  std::vector<std::string> images;
  std::size_t batch = 16;
  std::optional<std::size_t> limit;
  std::string method = "default";
  // Of method fqvit; empty: not given.
  std::string observer;
  std::optional<int> attention_bits, attention_codes;
  // Raw values of FloatImportOptions.
  FloatImportOptions import;
  std::vector<double> mean, std;
  std::string interpolation, image_size;
  std::size_t threads = 0;
  bool json = false;
};

/// Declares `quantize` with all its options; parsing fills `arguments`, which must outlive `app`.
CLI::App* add_quantize_command(CLI::App& app, QuantizeArguments& arguments);

/// What parsing cannot see: combinations, and paths that would waste the calibration. Fills
/// `arguments.import` and the defaults of the method. Throws Error(kInvalidArgument), Error(kIo).
void complete(QuantizeArguments& arguments);

}  // namespace intaglio
