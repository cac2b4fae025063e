#include "engine/program.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <optional>

#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {
namespace {

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return kExitUsage;
    case ErrorCode::kIo:
      return kExitIo;
    case ErrorCode::kFormat:
    case ErrorCode::kIntegrity:
    case ErrorCode::kUnsupported:
    case ErrorCode::kLimit:
      break;
  }
  return kExitFormat;
}

std::atomic<int> held = 0;
static_assert(std::atomic<int>::is_always_lock_free, "signal handlers may use no other");

/// While it lives, interrupts of this thread wait.
class HeldInterrupts {
 public:
  HeldInterrupts() {
    sigset_t held;
    sigemptyset(&held);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&held, signal);
    pthread_sigmask(SIG_BLOCK, &held, &before_);
  }
  ~HeldInterrupts() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  HeldInterrupts(const HeldInterrupts&) = delete;
  HeldInterrupts& operator=(const HeldInterrupts&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

int run_program(const char* name, const std::function<int()>& body) {
  try {
    return body();
  } catch (const Error& e) {
    std::fprintf(stderr, "%s: %s\n", name, terminal_text(e.what()).c_str());
    return status_of(e.code());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%s: out of memory\n", name);
    return kExitIo;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", name, terminal_text(e.what()).c_str());
    return kExitIo;
  }
}

std::string terminal_text(const std::string& text) {
  std::string clean = text;
  std::replace_if(
      clean.begin(), clean.end(),
      [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; }, '?');
  return clean;
}

void write_output(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::optional<HeldInterrupts> held;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored) || std::filesystem::is_regular_file(path, ignored)) {
    held.emplace();
  }
  write_file_atomically(path, bytes);
}

void ignore_write_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

void hold_signals() {
  ignore_write_signals();
  struct sigaction action {};
  // The handler is for one signal of each kind: the one that it raises kills.
  action.sa_handler = [](int signal) {
    if (held.exchange(signal) != 0) ::raise(signal);
  };
  sigemptyset(&action.sa_mask);
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    // Whoever ignores a signal for us (nohup, a shell's background) means it.
    if (::sigaction(signal, nullptr, &before) == 0 && before.sa_handler != SIG_IGN) {
      ::sigaction(signal, &action, nullptr);
    }
  }
}

int held_signal() {
  return held;
}

void die_by(int signal) {
  std::fflush(nullptr);
  ::signal(signal, SIG_DFL);
  ::raise(signal);
  std::_Exit(128 + signal);
}

Progress::Progress(std::size_t total, std::string unit)
    : Progress(total, std::move(unit), Options()) {}

Progress::Progress(std::size_t total, std::string unit, Options options)
    : total_(total),
      unit_(std::move(unit)),
      options_(options),
      terminal_(isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  clear();
}

void Progress::update(std::size_t done) {
  if (total_ == 1 || (terminal_ ? !options_.bar : options_.line.count() == 0)) return;
  const auto now = std::chrono::steady_clock::now();
  const auto since = now - last_;
  if (terminal_ ? drawn_ && since < std::chrono::milliseconds(100) : since < options_.line) return;
  last_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate =
      seconds > 0 ? static_cast<double>(done - std::min(done, options_.first)) / seconds : 0;
  std::string left;
  if (total_ != 0) {
    char text[64];
    const double images = static_cast<double>(total_ - std::min(done, total_));
    std::snprintf(text, sizeof text, ", %.0f s left", rate > 0 ? images / rate : 0);
    left = text;
  }
  const std::string count =
      std::to_string(done) + (total_ != 0 ? '/' + std::to_string(total_) : "") + ' ' + unit_;
  if (!terminal_) {
    std::fprintf(stderr, "%s, %.1f/s%s\n", count.c_str(), rate, left.c_str());
    return;
  }
  drawn_ = true;
  std::string bar;
  if (total_ != 0) {
    constexpr std::size_t kWidth = 30;
    const std::size_t filled = kWidth * std::min(done, total_) / total_;
    bar = '[' + std::string(filled, '#') + std::string(kWidth - filled, '.') + "] ";
  }
  std::fprintf(stderr, "\r\033[K%s%s, %.1f/s%s", bar.c_str(), count.c_str(), rate, left.c_str());
  std::fflush(stderr);
}

void Progress::clear() {
  if (!drawn_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace intaglio
