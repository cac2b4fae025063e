// What the command-line programs share: how errors end them, and progress on a terminal.
#pragma once

#include <signal.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

namespace intaglio {

/// Exit statuses of the programs.
inline constexpr int kExitSomeFailed = 1;  ///< finished, but some inputs could not be used
inline constexpr int kExitUsage = 2;       ///< the command line, or an argument's value
inline constexpr int kExitIo = 3;          ///< a file could not be read or written
inline constexpr int kExitFormat = 4;      ///< a file is damaged, unsupported or too large

/// Runs `body`; an Error (or running out of memory) becomes one line on stderr and its status.
int run_program(const char* name, const std::function<int()>& body);

/// Control characters replaced by '?', so that names from outside cannot steer a terminal.
std::string terminal_text(const std::string& text);

/// While it lives, interrupts (SIGINT, SIGTERM, SIGHUP) wait: a file that is written completely and
/// then renamed leaves nothing behind. Only where the process has no other thread.
class HoldInterrupts {
 public:
  HoldInterrupts();
  ~HoldInterrupts();
  HoldInterrupts(const HoldInterrupts&) = delete;
  HoldInterrupts& operator=(const HoldInterrupts&) = delete;

 private:
  sigset_t before_;
};

/// A bar with count, rate and time left on stderr; nothing unless stderr is a terminal. Debian 12
/// packages no C++ library for this.
class Progress {
 public:
  /// `unit` is what is counted, in the plural.
  Progress(std::size_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(std::size_t done);
  /// Removes the bar, so that other lines can be printed; the next update draws it again.
  void clear();

 private:
  std::size_t total_;
  std::string unit_;
  bool enabled_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace intaglio
