#include "engine/classify/summary.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "engine/classify/text.h"

namespace intaglio {
namespace {

double percent(double part, double whole) {
  return whole > 0 ? 100 * part / whole : 0;
}

double read_images(const Summary& s) {
  return static_cast<double>(std::max<std::size_t>(1, s.images - s.failed));
}

/// While the workers are hardly ever idle, the larger part of their work is the limit. Otherwise it
/// is what they wait for: the reader, or whoever keeps it waiting.
const char* limit(const Summary& s) {
  const StageTimes& t = s.times;
  const double workers = s.seconds * static_cast<double>(s.threads);
  constexpr double kBusy = 0.85;
  if (workers - t.workers_waited >= kBusy * workers) {
    return t.inference >= t.decoding ? "inference" : "decoding";
  }
  return t.reader_waited < s.seconds / 2 ? "reading" : "output";
}

}  // namespace

std::string summary_text(const Summary& s, bool accuracy) {
  const std::size_t read = s.images - s.failed;
  std::string text = std::to_string(read) + (read == 1 ? " image" : " images");
  if (s.failed != 0) text += ", " + std::to_string(s.failed) + " failed";
  if (s.first != 0) text += ", " + std::to_string(s.first) + " of an earlier run";
  if (accuracy) {
    text += format(", top-1 %.2f %%, top-5 %.2f %%",
                   percent(static_cast<double>(s.top1), read_images(s)),
                   percent(static_cast<double>(s.top5), read_images(s)));
  }
  const std::size_t computed = s.images - s.first;
  if (computed != 0) {
    text += format(", %.2f s, %.2f ms per image", s.seconds,
                   1e3 * s.seconds / static_cast<double>(computed));
  }
  return text;
}

std::string summary_json(const Summary& s) {
  const nlohmann::ordered_json json = {
      {"images", s.images},
      {"failed", s.failed},
      {"top1", percent(static_cast<double>(s.top1), read_images(s))},
      {"top5", percent(static_cast<double>(s.top5), read_images(s))},
      {"seconds", s.seconds}};
  return json.dump();
}

std::string stages_text(const Summary& s) {
  constexpr std::size_t kFewest = 100;
  const std::size_t images = s.images - s.first;
  if (images < kFewest) return {};
  struct Stage {
    const char* name;
    double cpu;
  };
  const std::array stages = {Stage{"reading", s.times.reading}, Stage{"decoding", s.times.decoding},
                             Stage{"inference", s.times.inference}, Stage{"output", s.output_cpu}};
  double cpu = 0;
  for (const Stage& stage : stages) cpu += stage.cpu;
  std::string text = format("%.1f images/s, limited by %s; CPU per image: ",
                            static_cast<double>(images) / s.seconds, limit(s));
  for (const Stage& stage : stages) {
    text += format("%s%s %.3f ms (%.0f %%)", stage.name == stages[0].name ? "" : ", ", stage.name,
                   1e3 * stage.cpu / static_cast<double>(images), percent(stage.cpu, cpu));
  }
  return text;
}

}  // namespace intaglio
