// Loading: the same model from a file and from memory, whatever the threads; large models that need
// several pieces; memory.
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "bench/synthetic_model.h"
#include "engine/model.h"
#include "graph/model_file.h"
#include "graph/page_memory.h"
#include "tests/support/models.h"

namespace intaglio::test {
namespace {

/// A file that is gone at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::span<const std::byte> bytes)
      : path_(std::filesystem::temp_directory_path() /
              ("intaglio-load-" + std::to_string(::getpid()) + ".intg")) {
    write_file_atomically(path_, bytes);
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::vector<std::int32_t> logits_of(const Model& model) {
  Session session(model);
  const auto logits = session.run(test_images(model, 1)[0]);
  return {logits.begin(), logits.end()};
}

}  // namespace

TEST_CASE("a model is the same from a file and from memory, whatever the threads") {
  // 22 MB: read in pieces, packed by threads, given back in huge pages.
  const std::vector<std::byte> bytes =
      serialize_model(synthetic_model(find_architecture("deit_small"), 32));
  const TemporaryFile file(bytes);
  const auto expected = logits_of(Model::parse(bytes, "model", {.isa = {}, .threads = 1}));
  for (const std::size_t threads : {0, 1, 2, 7}) {
    INFO(threads << " threads");
    CHECK(logits_of(Model::load(file.path(), {.isa = {}, .threads = threads})) == expected);
    CHECK(logits_of(Model::parse(bytes, "model", {.isa = {}, .threads = threads})) == expected);
  }
}

TEST_CASE("a loaded model needs its file no more") {
  const TestModel embedded = embedded_model();
  auto file = std::make_unique<TemporaryFile>(embedded.bytes);
  const Model model = Model::load(file->path());
  std::ofstream(file->path(), std::ios::trunc) << "something else";
  file.reset();
  CHECK(logits_of(model) == logits_of(Model::parse(embedded.bytes, "model")));
}

TEST_CASE("what a model says of itself does not depend on its weights being there") {
  const TestModel embedded = embedded_model();
  const Graph graph = parse_model(embedded.bytes, "model");
  const Model model = Model::parse(embedded.bytes, "model");
  std::size_t expected = 0;
  for (const Op& op : graph.ops) expected += multiply_accumulates(graph, op);
  CHECK(model.multiply_accumulates() == expected);
  std::size_t parameters = 0;
  for (const Op& op : graph.ops) parameters += constant_bytes(op);
  std::size_t of_steps = 0;
  for (const StepInfo& step : model.steps()) of_steps += step.parameter_bytes;
  CHECK(of_steps == parameters);
}

TEST_CASE("memory is given back from the beginning") {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{5} << 20}) {
    PageMemory memory(size);
    CHECK(memory.size() == size);
    CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0);
    std::fill_n(memory.data(), size, std::byte{7});
    const std::byte outside{};
    memory.discard_before(&outside);
    memory.discard_before(memory.data());
    CHECK(std::count(memory.data(), memory.data() + size, std::byte{7}) == std::ptrdiff_t(size));
    const std::size_t most = size / 5 * 4;
    memory.discard_before(memory.data() + most);
    memory.discard_before(memory.data() + most / 2);
    CHECK(std::all_of(memory.data() + most, memory.data() + size,
                      [](std::byte b) { return b == std::byte{7}; }));
  }
  CHECK_THROWS_AS(PageMemory(SIZE_MAX - 1), std::bad_alloc);
}

}  // namespace intaglio::test
