// Threads: how many by default, and that idle ones cost nothing.
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
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

namespace {

/// What a forked process returns of `work`, true or false; it is ended after a minute.
bool true_in_child(const std::function<bool()>& work) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::alarm(60);
    bool result = false;
    try {
      result = work();
    } catch (...) {
    }
    ::_exit(result ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("sessions work in a forked process, without and with a pool") {
  const TestModel embedded = embedded_model();
  const Model model = Model::parse(embedded.bytes, embedded.name);
  const std::vector<Image> images = test_images(model, 5);
  const std::vector<ImageView> views(images.begin(), images.end());
  std::vector<std::int32_t> expected(views.size() * model.classes());
  auto pool = std::make_unique<ThreadPool>(3);
  Session alone(model), shared(model, pool.get());
  shared.run(views, expected);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // until the workers wait
  const auto equal_in = [&](Session& session) {
    std::vector<std::int32_t> logits(expected.size());
    session.run(views, logits);
    return logits == expected;
  };
  CHECK(true_in_child([&] { return equal_in(alone); }));
  CHECK(true_in_child([&] { return equal_in(shared) && pool->concurrency() == 3; }));
  CHECK(true_in_child([&] {
    Session made(model, pool.get());
    return equal_in(made);
  }));
  CHECK(true_in_child([&] {
    pool.reset();  // waits for no thread
    return true;
  }));
  CHECK_FALSE(true_in_child([] { return false; }));
#ifdef INTAGLIO_TSAN
  WARN("NOT TESTED: a new pool in a forked process, which ThreadSanitizer does not support");
#else
  CHECK(true_in_child([&] {
    ThreadPool own(2);
    Session session(model, &own);
    return equal_in(session);
  }));
#endif
  CHECK(equal_in(shared));
}

TEST_CASE("a pool of more threads than the system has says so") {
  CHECK_THROWS_WITH(ThreadPool(SIZE_MAX), Catch::Contains("cannot start"));
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
