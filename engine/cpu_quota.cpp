#include "engine/cpu_quota.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

namespace intaglio {
namespace {

namespace fs = std::filesystem;

/// A quota of time per period; none unless both are there and positive ("max", -1).
std::optional<std::size_t> cpus_of(std::istream& quota_file, std::istream& period_file) {
  std::int64_t quota = 0;
  std::int64_t period = 0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0) return {};
  return static_cast<std::size_t>((quota - 1) / period + 1);
}

std::optional<std::size_t> cpus_of_v2(const fs::path& group) {
  std::ifstream file(group / "cpu.max");  // "<quota or max> <period>"
  return cpus_of(file, file);
}
std::optional<std::size_t> cpus_of_v1(const fs::path& group) {
  std::ifstream quota(group / "cpu.cfs_quota_us");
  std::ifstream period(group / "cpu.cfs_period_us");
  return cpus_of(quota, period);
}

/// Of the group at `path` below `mount` and its parents. Where a container's process sees the path
/// it has outside, only the mount's root exists, which then is its own group.
template <typename CpusOf>
std::optional<std::size_t> least(const fs::path& mount, const fs::path& path, CpusOf of_group) {
  std::optional<std::size_t> cpus = of_group(mount);
  fs::path group = mount;
  for (const fs::path& name : path.relative_path()) {
    if (name == "..") return cpus;  // outside of what is mounted here
    group /= name;
    if (const auto found = of_group(group)) cpus = std::min(cpus.value_or(*found), *found);
  }
  return cpus;
}

bool has_cpu(std::string_view controllers) {
  while (!controllers.empty()) {
    const std::size_t end = std::min(controllers.find(','), controllers.size());
    if (controllers.substr(0, end) == "cpu") return true;
    controllers.remove_prefix(std::min(end + 1, controllers.size()));
  }
  return false;
}

}  // namespace

std::optional<std::size_t> quota_cpus(const fs::path& root) {
  const fs::path mounts = root / "sys/fs/cgroup";
  std::optional<std::size_t> cpus;
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "<id>:<controllers>:<path>"
    const std::size_t first = line.find(':');
    const std::size_t second = first == line.npos ? first : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    const auto take = [&](std::optional<std::size_t> found) {
      if (found) cpus = std::min(cpus.value_or(*found), *found);
    };
    if (controllers.empty()) {
      take(least(mounts, path, cpus_of_v2));
      take(least(mounts / "unified", path, cpus_of_v2));  // beside version 1
    } else if (has_cpu(controllers)) {
      take(least(mounts / controllers, path, cpus_of_v1));
      take(least(mounts / "cpu", path, cpus_of_v1));  // often a link to the former
    }
  }
  return cpus;
}

}  // namespace intaglio
