// The accuracy of a quantized model, for people and for programs.
#pragma once

#include <filesystem>
#include <string>

#include "converters/accuracy.h"

namespace intaglio {

struct AccuracyReport {
  std::string model;   ///< free text: what was quantized
  std::string method;  ///< free text: how
  Accuracy accuracy;
};

/// One HTML page that needs nothing else: no network, no other file; scripts only sort the table.
/// Texts may be anything, they are escaped.
std::string html_report(const AccuracyReport& report);

/// The same content as one JSON object; ratios that are infinite are null.
std::string json_report(const AccuracyReport& report);

/// Writes the forms whose path is not empty. Throws Error(kIo).
void write_report(const AccuracyReport& report, const std::filesystem::path& html,
                  const std::filesystem::path& json);

}  // namespace intaglio
