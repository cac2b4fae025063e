// Sessions: the same logits whatever the instruction set, the threads and the batch; the embedded
// model's signature.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <latch>
#include <mutex>
#include <thread>

#include "engine/thread_pool.h"
#include "tests/support/models.h"

namespace intaglio::test {
namespace {

/// Runs all pieces on the caller's thread, last one first: any order must do.
class BackwardExecutor : public Executor {
 public:
  explicit BackwardExecutor(std::size_t concurrency) : concurrency_(concurrency) {}
  std::size_t concurrency() const override { return concurrency_; }
  void run(std::size_t count, const std::function<void(std::size_t)>& task) override {
    REQUIRE(count <= concurrency_);
    for (std::size_t i = count; i-- > 0;) task(i);
  }

 private:
  std::size_t concurrency_;
};

std::vector<std::int32_t> run_all(Session& session, std::span<const Image> images) {
  std::vector<ImageView> views(images.begin(), images.end());
  std::vector<std::int32_t> logits(images.size() * session.model().classes());
  session.run(views, logits);
  return logits;
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kernels::kAllIsas) {
    if (kernels::cpu_supports(isa)) {
      isas.push_back(isa);
    } else {
      WARN("NOT TESTED: this CPU cannot run " << isa_name(isa));
    }
  }
  return isas;
}

Model parse(const std::vector<std::byte>& bytes, std::optional<Isa> isa = {}) {
  return Model::parse(bytes, "model", {isa});
}

}  // namespace

TEST_CASE("logits do not depend on instruction set, threads or batch") {
  const auto& test_model = GENERATE(from_range(small_models()));
  INFO(test_model.name);
  const Model best = parse(test_model.bytes);
  const std::vector<Image> images = test_images(best, 5);
  Session reference_session(parse(test_model.bytes, Isa::kScalar));
  const std::vector<std::int32_t> reference = run_all(reference_session, images);

  for (const Isa isa : supported_isas()) {
    const Model model = parse(test_model.bytes, isa);
    CHECK(model.isa() == isa);
    for (const std::size_t threads : {1, 2, 3, 5}) {
      INFO(isa_name(isa) << ", " << threads << " threads");
      ThreadPool pool(threads);
      Session session(model, &pool);
      CHECK(run_all(session, images) == reference);
    }
    for (const std::size_t pieces : {2, 7, 64}) {
      BackwardExecutor executor(pieces);
      Session session(model, &executor);
      CHECK(run_all(session, images) == reference);
    }
  }
  // One by one, in another order, with rows apart, in a session that has run before.
  Session session(best);
  for (std::size_t i = images.size(); i-- > 0;) {
    const ImageView tight = images[i];
    std::vector<std::uint8_t> padded(tight.stride * 2 * static_cast<std::size_t>(tight.height), 77);
    for (int y = 0; y < tight.height; ++y) {
      std::copy_n(tight.row(y), tight.stride, padded.data() + 2 * tight.stride * std::size_t(y));
    }
    const auto logits =
        session.run(ImageView{padded.data(), tight.width, tight.height, 2 * tight.stride});
    CHECK(std::equal(logits.begin(), logits.end(),
                     reference.begin() + std::ptrdiff_t(i * logits.size())));
  }
}

TEST_CASE("other forms than the default name the same characters") {
  std::ifstream csv(std::filesystem::path(INTAGLIO_GLYPHS) / "samples/labels.csv");
  std::vector<std::string> labels;
  std::string line;
  std::getline(csv, line);
  while (std::getline(csv, line)) labels.push_back(line.substr(line.rfind(',') + 1));
  for (const TestModel& form : {embedded_model_beyond(DType::kU8),
                                embedded_model_beyond(DType::kS16), embedded_model_uniform()}) {
    const Model model = parse(form.bytes);
    const std::vector<Image> images = sample_images(model);
    REQUIRE(images.size() == labels.size());
    Session session(model);
    std::size_t right = 0;
    for (std::size_t i = 0; i < images.size(); ++i) {
      right += std::to_string(top_k(session.run(images[i]), 1)[0].index) == labels[i];
    }
    INFO(form.name << ": " << right << " of " << images.size());
    CHECK(right * 100 >= images.size() * 98);
  }
}

// Which rows are made, and where they lie: a head that ignores one of its two tokens is the head of
// the other.
TEST_CASE("a head reads two tokens side by side") {
  const auto logits_of = [](const TestModel& test_model) {
    const Model model = parse(test_model.bytes);
    Session session(model);
    return run_all(session, test_images(model, 5));
  };
  for (const int row : {0, 2}) {
    const auto first = logits_of(embedded_model_of_token(row));
    const auto second = logits_of(embedded_model_of_token(row + 1));
    CHECK(first != second);
    CHECK(logits_of(embedded_model_with_two_tokens(row, 1, 0)) == first);
    CHECK(logits_of(embedded_model_with_two_tokens(row, 0, 1)) == second);
  }
}

TEST_CASE("sessions of one model run side by side") {
  const TestModel embedded = embedded_model();
  const Model model = parse(embedded.bytes);
  const std::vector<Image> images = test_images(model, 4);
  Session first(model);
  const auto expected = run_all(first, images);
  std::vector<std::vector<std::int32_t>> found(4);
  std::vector<std::thread> threads;
  for (auto& logits : found) {
    threads.emplace_back([&logits, &model, &images] {
      Session session(model);
      for (int i = 0; i < 3; ++i) logits = run_all(session, images);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& logits : found) CHECK(logits == expected);
}

TEST_CASE("a model is replaced while sessions run") {
  const TestModel files[] = {embedded_model(), embedded_model_of_token(1)};
  Model current = parse(files[0].bytes);
  std::mutex mutex;
  const auto latest = [&] {
    const std::lock_guard lock(mutex);
    return current;
  };
  CHECK(latest() == current);
  const std::vector<Image> images = test_images(current, 1);
  std::vector<std::vector<std::int32_t>> expected;
  for (const TestModel& file : files) {
    Session session(parse(file.bytes));
    expected.push_back(run_all(session, images));
  }
  REQUIRE(expected[0] != expected[1]);

  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::atomic<int>> replaced(16);
  std::latch begun(16);  // a session of the last model would never be replaced
  std::vector<std::thread> threads;
  for (std::atomic<int>& count : replaced) {
    threads.emplace_back([&] {
      Session session(latest());
      begun.count_down();
      while (!stop || count == 0) {
        const Model model = latest();
        if (!(session.model() == model)) {
          session = Session(model);
          ++count;
        }
        const auto logits = run_all(session, images);
        wrong += logits != expected[0] && logits != expected[1];
      }
    });
  }
  begun.wait();
  for (int i = 1; i <= 6; ++i) {
    Model next = parse(files[i % 2].bytes);
    CHECK_FALSE(next == latest());
    const std::lock_guard lock(mutex);
    current = std::move(next);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(std::ranges::all_of(replaced, [](const auto& count) { return count > 0; }));
}

TEST_CASE("a session refuses what does not fit") {
  const TestModel embedded = embedded_model();
  const Model model = parse(embedded.bytes);
  Session session(model);
  const Image wrong(static_cast<int>(model.width()) + 1, static_cast<int>(model.height()));
  CHECK_THROWS_AS(session.run(wrong), Error);
  CHECK_THROWS_AS(session.run(ImageView{}), Error);
  const Image right(static_cast<int>(model.width()), static_cast<int>(model.height()));
  const ImageView view = right;
  CHECK_THROWS_AS(session.run(ImageView{view.data, view.width, view.height, view.stride - 1}),
                  Error);
  ImageView bgr = right;
  bgr.format = PixelFormat::kBgr;
  CHECK_THROWS_WITH(session.run(bgr), Catch::Contains("takes RGB"));
  CHECK_THROWS_WITH(session.features(bgr), Catch::Contains("takes RGB"));
  std::vector<std::int32_t> logits(model.classes() + 1);
  CHECK_THROWS_WITH(session.run({&view, 1}, logits), Catch::Contains("room for 1 x 32"));
}

TEST_CASE("rankings") {
  const std::int32_t logits[] = {3, 9, -5, 9, 0};
  const auto best = top_k(logits, 3);
  REQUIRE(best.size() == 3);
  CHECK((best[0].index == 1 && best[1].index == 3 && best[2].index == 0));
  CHECK(best[0].logit == 9);
  CHECK(top_k(logits, 99).size() == 5);
  CHECK(top_k({}, 3).empty());
  const auto p = probabilities(logits, 0.5);
  CHECK(p[1] == Approx(std::exp(4.5) / (std::exp(1.5) + 2 * std::exp(4.5) + std::exp(-2.5) + 1)));
  const std::int32_t extremes[] = {INT32_MIN, INT32_MAX};
  CHECK(probabilities(extremes, 1)[1] == 1);
}

TEST_CASE("the thread pool runs each piece once") {
  for (const std::size_t threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    CHECK(pool.concurrency() == threads);
    for (int round = 0; round < 200; ++round) {
      for (std::size_t count = 0; count <= threads; ++count) {
        std::vector<std::atomic<int>> runs(threads);
        pool.run(count, [&](std::size_t i) { ++runs[i]; });
        for (std::size_t i = 0; i < threads; ++i) REQUIRE(runs[i] == (i < count ? 1 : 0));
      }
    }
  }
  CHECK(available_cpus() >= 1);
}

// The logits of the embedded model on its first sample images, as one number. A change of any
// kernel, of lowering, of decoding or of resizing that alters a result alters it; then the log says
// so.
TEST_CASE("signature of the embedded model") {
  const TestModel embedded = embedded_model();
  const Model model = parse(embedded.bytes);
  Session session(model);
  CHECK(signature(run_all(session, sample_images(model))) == kEmbeddedSignature);
}

}  // namespace intaglio::test
