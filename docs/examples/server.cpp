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
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kThreads = 16;
constexpr std::size_t kRequestsPerImage = 64;
constexpr int kReplacements = 4;

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

  void work() {
    Worker worker(current.get());
    for (std::size_t i = next++; i < answers.size(); i = next++) {
      const intaglio::Model latest = current.get();
      if (!(worker.model() == latest)) worker = Worker(latest);
      try {
        answers[i] = worker.answer(images[i % images.size()]);
      } catch (const std::exception& e) {  // of this request alone
        answers[i] = std::string("error: ") + e.what();
      }
    }
  }
};

int run(int argc, char** argv) {
  Server server = {CurrentModel(intaglio::Model::load(argv[1])), {}, {}};
  for (int i = 2; i < argc; ++i) server.images.push_back(intaglio::load_image(argv[i]));
  server.answers.resize(kRequestsPerImage * server.images.size());

  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) threads.emplace_back([&server] { server.work(); });
  for (int i = 0; i < kReplacements; ++i) server.current.replace(intaglio::Model::load(argv[1]));
  for (std::thread& thread : threads) thread.join();

  for (std::size_t i = 0; i < server.images.size(); ++i) {
    std::printf("%s  %s\n", argv[2 + i], server.answers[i].c_str());
  }
  for (std::size_t i = 0; i < server.answers.size(); ++i) {
    if (server.answers[i] != server.answers[i % server.images.size()]) return 1;
  }
  std::printf("%zu requests, %zu threads, the model replaced %d times\n", server.answers.size(),
              kThreads, kReplacements);
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
