#include "bench/model_source.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "bench/machine.h"
#include "bench/workload.h"

namespace intaglio {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw Error(ErrorCode::kIo, what + ": " + std::strerror(errno));
}

/// Standard output of this program run again with `arguments`.
std::string output_of_self(std::vector<std::string> arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail("cannot make a pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawn(&child, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string output;
  std::array<char, 256> buffer;
  for (ssize_t n = 0; failed == 0;) {
    n = ::read(ends[0], buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    output.append(buffer.data(), static_cast<std::size_t>(n));
  }
  ::close(ends[0]);
  int status = 0;
  while (failed == 0 && ::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (failed != 0 || status != 0) {
    throw Error(ErrorCode::kIo, "loading could not be measured in a process of its own");
  }
  return output;
}

}  // namespace

MemoryFile::MemoryFile(std::span<const std::byte> bytes) : fd_(::memfd_create("model", 0)) {
  if (fd_ < 0) fail("cannot hold a model in memory");
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      ::close(fd_);
      fail("cannot hold a model in memory");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

MemoryFile::MemoryFile(MemoryFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

MemoryFile::~MemoryFile() {
  if (fd_ >= 0) ::close(fd_);
}

std::filesystem::path MemoryFile::path() const {
  return fmt::format("/proc/self/fd/{}", fd_);
}

void report_load_cost(const std::filesystem::path& path, kernels::Isa isa, std::size_t threads,
                      std::size_t batch) {
  const auto start = std::chrono::steady_clock::now();
  const Model model = Model::load(path, {isa});
  const auto loaded = std::chrono::steady_clock::now();
  Workload(model, threads, batch).run();
  fmt::print("{} {}\n", std::chrono::duration<double, std::milli>(loaded - start).count(),
             peak_rss_mb());
}

LoadCost measure_load_cost(const std::filesystem::path& model, kernels::Isa isa,
                           std::size_t threads, std::size_t batch) {
  const std::string output = output_of_self(
      {"intaglio-bench", "--load-only", "--isa", isa_name(isa), "--threads",
       std::to_string(threads), "--batch", std::to_string(batch), "--", model.string()});
  LoadCost cost;
  if (std::sscanf(output.c_str(), "%lf %lf", &cost.load_ms, &cost.peak_rss_mb) != 2) {
    throw Error(ErrorCode::kIo, "the process that measures loading printed nothing of use");
  }
  return cost;
}

}  // namespace intaglio
