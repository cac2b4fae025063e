// Measurements as text, CSV, JSON and a trace.
#pragma once

#include <string>
#include <vector>

#include "bench/measure.h"

namespace intaglio {

std::string text_report(const Machine& machine, const std::vector<Measurement>& rows);
/// A header and one row per configuration, without steps.
std::string csv_report(const Machine& machine, const std::vector<Measurement>& rows);
/// One object per line and configuration.
std::string json_report(const Machine& machine, const std::vector<Measurement>& rows);
/// Lines that say what was too noisy. `rows` is not empty.
std::vector<std::string> warnings(const std::vector<Measurement>& rows);
/// One inference of each row in Chrome's trace format, for chrome://tracing or ui.perfetto.dev.
std::string trace(const std::vector<Measurement>& rows);

}  // namespace intaglio
