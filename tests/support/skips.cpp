// INTAGLIO_SHARED (the shared data's folder) and INTAGLIO_TEST_DATA (tests/golden) come from CMake.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <catch2/catch.hpp>
#include <iostream>
#include <map>
#include <set>
#include <string>

#include "tests/support/shared_data.h"

namespace intaglio::test {
namespace {

/// What each skipped test missed.
std::map<std::string, std::set<std::string>>& skips() {
  static std::map<std::string, std::set<std::string>> skips;
  return skips;
}

struct SkipReport : Catch::TestEventListenerBase {
  using TestEventListenerBase::TestEventListenerBase;

  void testRunEnded(const Catch::TestRunStats&) override {
    if (skips().empty()) return;
    std::cerr << "\n*** " << skips().size()
              << " tests SKIPPED because reference data is absent (" INTAGLIO_SHARED "):\n";
    for (const auto& [test, files] : skips()) {
      std::cerr << "***   " << test << ":";
      for (const std::string& file : files) std::cerr << ' ' << file;
      std::cerr << '\n';
    }
  }
};

CATCH_REGISTER_LISTENER(SkipReport)

}  // namespace

std::filesystem::path golden_path(const std::filesystem::path& relative) {
  return std::filesystem::path(INTAGLIO_TEST_DATA) / relative;
}

std::optional<std::filesystem::path> shared_path(const std::filesystem::path& relative) {
  const std::filesystem::path path = std::filesystem::path(INTAGLIO_SHARED) / relative;
  if (std::filesystem::exists(path)) return path;
  const std::string test = Catch::getResultCapture().getCurrentTestName();
  std::cerr << "SKIPPED (no shared data): " << test << ": " << path.string() << '\n';
  skips()[test].insert(relative.string());
  return {};
}

}  // namespace intaglio::test
