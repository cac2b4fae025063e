// The accuracy of a quantized model, for people and for programs.
#pragma once

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

/// The same content as one JSON object; ratios that are infinite (nothing lost, or
/// nothing left) are null, top-1 and agreement in percent.
std::string json_report(const AccuracyReport& report);

}  // namespace intaglio
