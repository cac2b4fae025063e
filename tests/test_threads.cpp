// Threads: how many by default, and that idle ones cost nothing.
#include <time.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "engine/cpu_quota.h"
#include "engine/thread_pool.h"
#include "graph/parallel.h"
#include "tests/support/models.h"

namespace intaglio::test {
namespace {

/// A tree of files that looks like a system's; gone at the end.
class FakeRoot {
 public:
  FakeRoot() {
    std::string name = (std::filesystem::temp_directory_path() / "intaglio-root-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~FakeRoot() { std::filesystem::remove_all(path_); }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;

  FakeRoot& file(const std::string& name, const std::string& content) {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << content;
    return *this;
  }
  std::optional<std::size_t> cpus() const { return quota_cpus(path_); }

 private:
  std::filesystem::path path_;
};

std::chrono::nanoseconds cpu_time() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

TEST_CASE("quota of control groups, version 2") {
  FakeRoot root;
  CHECK(!root.cpus());
  root.file("proc/self/cgroup", "0::/a/b\n");
  CHECK(!root.cpus());
  root.file("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  CHECK(!root.cpus());
  root.file("sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
  CHECK(root.cpus() == 4u);
  root.file("sys/fs/cgroup/a/cpu.max", "250000 100000\n");  // of a parent, rounded up
  CHECK(root.cpus() == 3u);
  root.file("sys/fs/cgroup/cpu.max", "1000 100000\n");
  CHECK(root.cpus() == 1u);
  root.file("sys/fs/cgroup/cpu.max", "max 100000\n");
  CHECK(root.cpus() == 3u);
  root.file("sys/fs/cgroup/other/cpu.max", "100000 100000\n");
  CHECK(root.cpus() == 3u);
}

TEST_CASE("quota of control groups, version 1") {
  FakeRoot root;
  root.file("proc/self/cgroup", "4:memory:/a\n3:cpuset:/a\n2:cpu,cpuacct:/a\n0::/\n");
  root.file("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n");
  root.file("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  CHECK(!root.cpus());
  root.file("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "150000\n");
  CHECK(root.cpus() == 2u);
  root.file("sys/fs/cgroup/unified/cpu.max", "100000 100000\n");
  CHECK(root.cpus() == 1u);
}

TEST_CASE("control groups seen from a container, and damaged files") {
  FakeRoot root;
  root.file("proc/self/cgroup", "1:cpu:/docker/0123\n0::/../outside\nnonsense\n::\n");
  root.file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000");
  root.file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
  CHECK(root.cpus() == 2u);
  for (const char* text : {"", "max", "x y", "100000", "100000 0", "-5 100000", "0 100000"}) {
    root.file("sys/fs/cgroup/cpu.max", text);
    CHECK(root.cpus() == 2u);
  }
  root.file("sys/fs/cgroup/cpu.max", "9223372036854775807 1");
  CHECK(root.cpus() == 2u);
  CHECK(available_cpus() >= 1);
}

TEST_CASE("idle threads use no CPU time") {
  const TestModel embedded = embedded_model();
  const Model model = Model::parse(embedded.bytes, embedded.name);
  const std::vector<Image> images = test_images(model, 3);
  ThreadPool pool(4);
  Session session(model, &pool);
  for (const Image& image : images) session.run(image);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // until all have gone to sleep
  const auto before = cpu_time();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(cpu_time() - before < std::chrono::milliseconds(5));
  session.run(images[0]);
}

TEST_CASE("pieces are run once each, and the first error counts") {
  for (const std::size_t threads : {0, 1, 2, 5}) {
    for (const std::size_t count : {0, 1, 3, 40}) {
      std::vector<std::atomic<int>> runs(count);
      run_pieces(count, threads, [&](std::size_t i) { ++runs[i]; });
      for (const auto& n : runs) CHECK(n == 1);
    }
    const auto fail = [](std::size_t i) {
      if (i >= 2) throw Error(ErrorCode::kIo, std::to_string(i));
    };
    CHECK_THROWS_WITH(run_pieces(40, threads, fail), "2");
  }
}

}  // namespace intaglio::test
