// What a server does: 16 threads answer requests with one model, which is replaced by a newer one
// while they do. Nobody waits: a request in progress ends with the model it began with, and the old
// model goes with the last session that uses it.
//
//   server MODEL.intg IMAGE...
//
// Stands in for the network with 64 requests per image; the newer model is the same file again.
#include <intaglio/decode_image.h>
#include <intaglio/intaglio.h>
#include <intaglio/preprocess.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kThreads = 16;
constexpr std::size_t kRequestsPerImage = 64;
constexpr std::size_t kReplacements = 4;

/// The model that new requests get. A Model is a handle: to copy it is to share it.
class CurrentModel {
 public:
  explicit CurrentModel(intaglio::Model model) : model_(std::move(model)) {}
  intaglio::Model get() const {
    const std::lock_guard lock(mutex_);
    return model_;
  }
  void replace(intaglio::Model newer) {
    const std::lock_guard lock(mutex_);
    std::swap(model_, newer);  // the old handle goes when the lock is gone
  }

 private:
  mutable std::mutex mutex_;
  intaglio::Model model_;
};

/// One thread's memory: made anew when the model is another.
class Worker {
 public:
  explicit Worker(intaglio::Model model)
      : session_(model),
        preprocessor_(model.preprocessing()),
        pixels_(static_cast<int>(model.width()), static_cast<int>(model.height())) {}

  const intaglio::Model& model() const { return session_.model(); }
  std::string answer(intaglio::ImageView image) {
    preprocessor_.run(image, pixels_.pixels);
    return model().label(intaglio::top_k(session_.run(pixels_), 1)[0].index);
  }

 private:
  intaglio::Session session_;
  intaglio::Preprocessor preprocessor_;
  intaglio::Image pixels_;
};

struct Server {
  CurrentModel current;
  std::vector<intaglio::Image> images;
  std::vector<std::string> answers;  // one per request
  std::atomic<std::size_t> next{0};
  std::atomic<std::size_t> arrived{0};  // requests that the network has brought
  std::atomic<std::size_t> answered{0};
  std::atomic<int> replaced{0};  // how often a worker went over to a newer model

  void work() {
    std::optional<Worker> worker;
    for (std::size_t i = next++; i < answers.size(); i = next++) {
      while (i >= arrived) std::this_thread::yield();
      try {
        const intaglio::Model latest = current.get();
        if (!worker || !(worker->model() == latest)) {
          const bool newer = worker.has_value();
          worker.emplace(latest);
          replaced += newer;
        }
        answers[i] = worker->answer(images[i % images.size()]);
      } catch (const std::exception& e) {  // of this request alone
        answers[i] = std::string("error: ") + e.what();
      }
      ++answered;
    }
  }

  /// A file that is not there or damaged costs nothing but the newer model.
  void reload(const char* path) {
    try {
      current.replace(intaglio::Model::load(path));
    } catch (const std::exception& e) {
      std::fprintf(stderr, "server: the old model stays: %s\n", e.what());
    }
  }
};

int run(int argc, char** argv) {
  Server server = {CurrentModel(intaglio::Model::load(argv[1])), {}, {}};
  for (int i = 2; i < argc; ++i) server.images.push_back(intaglio::load_image(argv[i]));
  server.answers.resize(kRequestsPerImage * server.images.size());

  {
    std::vector<std::jthread> threads;  // joined here, whatever is thrown
    for (std::size_t i = 0; i < kThreads; ++i) threads.emplace_back([&server] { server.work(); });
    for (std::size_t i = 1; i <= kReplacements + 1; ++i) {
      const std::size_t before = server.arrived;
      server.arrived = i * server.answers.size() / (kReplacements + 1);
      // In the midst of these requests; the next ones come when the newer model is there.
      while (server.answered < (before + server.arrived) / 2) std::this_thread::yield();
      if (i <= kReplacements) server.reload(argv[1]);
    }
  }

  for (std::size_t i = 0; i < server.images.size(); ++i) {
    std::printf("%s  %s\n", argv[2 + i], server.answers[i].c_str());
  }
  for (std::size_t i = 0; i < server.answers.size(); ++i) {
    if (server.answers[i] != server.answers[i % server.images.size()]) {
      std::fprintf(stderr, "server: request %zu has another answer: %s\n", i,
                   server.answers[i].c_str());
      return 1;
    }
  }
  std::printf("%zu requests, %zu threads, newer models taken %d times\n", server.answers.size(),
              kThreads, server.replaced.load());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: server MODEL.intg IMAGE...\n");
    return 2;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {  // intaglio::Error says what is wrong, and where
    std::fprintf(stderr, "server: %s\n", e.what());
    return 1;
  }
}
