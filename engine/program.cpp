#include "engine/program.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
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
    return kExitFormat;
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

Progress::Progress(std::size_t total, std::string unit)
    : total_(total),
      unit_(std::move(unit)),
      enabled_(total > 1 && isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  clear();
}

void Progress::update(std::size_t done) {
  const auto now = std::chrono::steady_clock::now();
  if (!enabled_ || (drawn_ && now - last_ < std::chrono::milliseconds(100))) return;
  last_ = now;
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  const double left = rate > 0 ? static_cast<double>(total_ - done) / rate : 0;
  constexpr std::size_t kWidth = 30;
  const std::size_t filled = kWidth * done / total_;
  const std::string bar = std::string(filled, '#') + std::string(kWidth - filled, '.');
  std::fprintf(stderr, "\r\033[K[%s] %zu/%zu %s, %.1f/s, %.0f s left", bar.c_str(), done, total_,
               unit_.c_str(), rate, left);
  std::fflush(stderr);
}

void Progress::clear() {
  if (!drawn_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace intaglio
