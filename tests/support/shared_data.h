// The reference data that is too large for the repository. A test that needs it says so loudly when
// it is absent, instead of passing in silence.
#pragma once

#include <filesystem>
#include <optional>

namespace intaglio::test {

/// A file of the small goldens in tests/golden.
std::filesystem::path golden_path(const std::filesystem::path& relative);

/// The file's path where the shared data holds it. Otherwise nothing, and the running test is
/// reported as skipped: at once, and in a summary at the end of the run.
std::optional<std::filesystem::path> shared_path(const std::filesystem::path& relative);

}  // namespace intaglio::test
