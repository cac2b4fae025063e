// How much CPU time the system's control groups give this process: containers limit it so.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>

namespace intaglio {

/// The least quota of the process's own groups and their parents in CPUs, rounded up, at least 1;
/// nothing without one. Versions 1 and 2 of control groups. `root` is "/" but in tests: below it,
/// proc/self/cgroup names the groups, and sys/fs/cgroup has them.
std::optional<std::size_t> quota_cpus(const std::filesystem::path& root);

}  // namespace intaglio
