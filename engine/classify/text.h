// What rows, facts and summaries are put together of.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

namespace intaglio {

/// printf into a string; for numbers and short texts.
template <typename... Args>
std::string format(const char* text, Args... args) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, text, args...);
  return buffer;
}

/// On one line. Names are bytes, not necessarily UTF-8.
inline std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace intaglio
