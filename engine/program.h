// What the command-line programs share: how errors end them, and progress on a terminal.
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

namespace intaglio {

/// Exit statuses of the programs.
inline constexpr int kExitSomeFailed = 1;  ///< finished, but some inputs could not be used
inline constexpr int kExitUsage = 2;       ///< the command line, or an argument's value
inline constexpr int kExitIo = 3;          ///< a file, memory: it may be otherwise another time
inline constexpr int kExitFormat = 4;      ///< a file is damaged, unsupported or too large
inline constexpr int kExitFailures = 5;    ///< given up: as many inputs failed as may fail

/// Runs `body`; an Error (or running out of memory) becomes one line on stderr and its status.
int run_program(const char* name, const std::function<int()>& body);

/// Control characters replaced by '?', so that names from outside cannot steer a terminal.
std::string terminal_text(const std::string& text);

/// write_file_atomically(), during which SIGINT, SIGTERM and SIGHUP wait: they would leave its
/// temporary file. Not for devices and pipes, which may block for long. Only where the process has
/// no other thread.
void write_output(const std::filesystem::path& path, std::span<const std::byte> bytes);

/// From now on, writing to a closed pipe or beyond the largest size of a file is an error, not a
/// signal.
void ignore_write_signals();
/// That, and the first SIGINT, SIGTERM or SIGHUP (unless it is ignored) is only remembered; the
/// second one kills, whichever it is.
void hold_signals();
/// The signal that was remembered, or 0.
int held_signal();
/// Ends the process by that signal, as if nobody had held it.
[[noreturn]] void die_by(int signal);

/// A bar with count, rate and time left on stderr, if it is a terminal. Elsewhere a line from time
/// to time, if wanted. Debian 12 packages no C++ library for this.
class Progress {
 public:
  struct Options {
    bool bar = true;               ///< on terminals
    std::chrono::seconds line{0};  ///< elsewhere, between two lines; 0: no lines
    std::size_t first = 0;         ///< done before it began
  };

  /// `unit` is what is counted, in the plural. `total` 0: not known.
  Progress(std::size_t total, std::string unit, Options options);
  Progress(std::size_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void set_total(std::size_t total) { total_ = total; }
  void update(std::size_t done);
  /// Removes the bar, so that other lines can be printed; the next update draws it again.
  void clear();

 private:
  std::size_t total_;
  std::string unit_;
  Options options_;
  bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace intaglio
