// intaglio-classify: names what is on images.
#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/classify_inputs.h"
#include "engine/classify_report.h"
#include "engine/decode_image.h"
#include "engine/preprocess.h"
#include "engine/program.h"
#include "engine/thread_pool.h"
#include "graph/safetensors.h"

namespace intaglio {
namespace {

struct Arguments {
  std::filesystem::path model, eval, logits;
  std::vector<std::string> inputs;
  std::size_t top_k = 5;
  std::size_t threads = 0;
  std::string isa = "auto";
  bool json = false, csv = false, ignore_orientation = false;

  ReportFormat format() const {
    return json ? ReportFormat::kJson : csv ? ReportFormat::kCsv : ReportFormat::kText;
  }
};

/// What one thread needs to classify images; allocates nothing while sizes repeat, but for
/// decoding.
class Worker {
 public:
  Worker(const Model& model, const Arguments& arguments, Executor* executor)
      : session_(model, executor),
        preprocessor_(model.preprocessing()),
        pixels_(preprocessor_.size()),
        top_k_(arguments.top_k) {
    limits_.apply_orientation = !arguments.ignore_orientation;
  }

  /// Never throws for what is wrong with one image. `logits` [classes] is set to 0 on failure.
  Outcome classify(const std::filesystem::path& path, std::span<std::int32_t> logits) {
    Outcome outcome;
    try {
      const Model& model = session_.model();
      preprocessor_.run(load_image(path, limits_), pixels_);
      const ImageView view{pixels_.data(), static_cast<int>(model.width()),
                           static_cast<int>(model.height()), 3 * model.width()};
      session_.run({&view, 1}, logits);
      const std::vector<double> probability = probabilities(logits, model.logit_scale());
      for (const Prediction& p : top_k(logits, std::max(top_k_, kEvaluated))) {
        outcome.top.push_back({p, probability[p.index]});
      }
    } catch (const std::bad_alloc&) {
      outcome.error = path.string() + ": out of memory";
    } catch (const std::exception& e) {
      outcome.error = e.what();
    }
    if (!outcome.error.empty()) std::fill(logits.begin(), logits.end(), 0);
    return outcome;
  }

  static constexpr std::size_t kEvaluated = 5;  // top-5

 private:
  Session session_;
  Preprocessor preprocessor_;
  std::vector<std::uint8_t> pixels_;
  std::size_t top_k_;
  DecodeLimits limits_;
};

bool contains(const Outcome& outcome, std::size_t label, std::size_t k) {
  for (std::size_t i = 0; i < std::min(k, outcome.top.size()); ++i) {
    if (outcome.top[i].prediction.index == label) return true;
  }
  return false;
}

/// Logits of all images in one safetensors file: "logits" s32 [images, classes].
void write_logits(const Arguments& arguments, const Model& model,
                  const std::vector<InputImage>& images, const std::vector<std::int32_t>& logits,
                  const std::vector<std::size_t>& failed) {
  nlohmann::json paths = nlohmann::json::array();
  for (const InputImage& image : images) paths.push_back(image.path.string());
  const auto text = [](const nlohmann::json& json) {
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  write_file_atomically(
      arguments.logits,
      serialize_safetensors({{"logits", TensorView{DType::kS32,
                                                   {images.size(), model.classes()},
                                                   std::as_bytes(std::span(logits))}}},
                            {{"logit_scale", text(model.logit_scale())},
                             {"paths", text(paths)},
                             {"failed", text(failed)}}));
}

/// Classifies everything, in chunks: results are printed in order, memory does not grow with the
/// list.
class Run {
 public:
  Run(const Arguments& arguments, const Model& model, const std::vector<InputImage>& images)
      : arguments_(arguments),
        model_(model),
        images_(images),
        threads_(arguments.threads == 0 ? available_cpus() : arguments.threads),
        pool_(threads_),
        report_(make_report(arguments.format(), model, std::cout)),
        progress_(images.size(), "images") {
    // One image at a time per thread; a single image is shared by all threads.
    const bool single = images.size() == 1;
    const std::size_t workers =
        single ? 1 : std::min(threads_, std::max<std::size_t>(1, images.size()));
    for (std::size_t i = 0; i < workers; ++i) {
      workers_.push_back(
          std::make_unique<Worker>(model, arguments, single && threads_ > 1 ? &pool_ : nullptr));
    }
  }

  int run() {
    const auto start = std::chrono::steady_clock::now();
    const std::size_t chunk = 16 * workers_.size();
    if (!arguments_.logits.empty()) logits_.resize(images_.size() * model_.classes());
    for (std::size_t first = 0; first < images_.size(); first += chunk) {
      classify_chunk(first, std::min(images_.size(), first + chunk));
      if (!std::cout) throw Error(ErrorCode::kIo, "cannot write to standard output");
    }
    progress_.clear();
    if (!arguments_.logits.empty()) write_logits(arguments_, model_, images_, logits_, failed_);
    Summary summary{images_.size(), failed_.size(), {}, {}, 0};
    summary.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!arguments_.eval.empty()) {
      const double read =
          static_cast<double>(std::max<std::size_t>(1, images_.size() - failed_.size()));
      summary.top1 = 100.0 * static_cast<double>(top1_) / read;
      summary.top5 = 100.0 * static_cast<double>(top5_) / read;
    }
    report_->summary(summary);
    std::cout.flush();
    if (!std::cout) throw Error(ErrorCode::kIo, "cannot write to standard output");
    return failed_.empty() ? 0 : kExitSomeFailed;
  }

 private:
  void classify_chunk(std::size_t first, std::size_t last) {
    std::vector<Outcome> outcomes(last - first);
    std::vector<std::int32_t> scratch;
    const std::size_t classes = model_.classes();
    if (logits_.empty()) scratch.resize((last - first) * classes);
    std::int32_t* rows = logits_.empty() ? scratch.data() : logits_.data() + first * classes;
    std::atomic<std::size_t> next = 0;
    const auto work = [&](std::size_t worker) {
      for (std::size_t i = next++; i < outcomes.size(); i = next++) {
        outcomes[i] =
            workers_[worker]->classify(images_[first + i].path, {rows + i * classes, classes});
        if (worker == 0) progress_.update(first + i);
      }
    };
    if (workers_.size() == 1) {
      work(0);
    } else {
      pool_.run(workers_.size(), work);
    }
    for (std::size_t i = 0; i < outcomes.size(); ++i) record(first + i, outcomes[i]);
  }

  void record(std::size_t index, Outcome& outcome) {
    if (!outcome.error.empty()) {
      failed_.push_back(index);
      progress_.clear();
      std::fprintf(stderr, "intaglio-classify: %s\n", terminal_text(outcome.error).c_str());
    } else if (const auto& label = images_[index].label) {
      top1_ += contains(outcome, *label, 1);
      top5_ += contains(outcome, *label, 5);
    }
    outcome.top.resize(std::min(outcome.top.size(), arguments_.top_k));
    report_->image(images_[index], outcome);
  }

  const Arguments& arguments_;
  const Model& model_;
  const std::vector<InputImage>& images_;
  std::size_t threads_;
  ThreadPool pool_;
  std::unique_ptr<Report> report_;
  Progress progress_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::int32_t> logits_;
  std::vector<std::size_t> failed_;
  std::size_t top1_ = 0, top5_ = 0;
};

std::vector<std::string> class_names(const Model& model) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < model.classes(); ++i) names.push_back(model.label(i));
  return names;
}

LoadOptions load_options(const std::string& isa) {
  LoadOptions options;
  for (const Isa known : kernels::kAllIsas) {
    if (isa == isa_name(known)) options.isa = known;
  }
  return options;
}

std::vector<std::string> isa_names() {
  std::vector<std::string> names = {"auto"};
  for (const Isa isa : kernels::kAllIsas) names.emplace_back(isa_name(isa));
  return names;
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"Names what is on images, with integer arithmetic only."};
  app.set_version_flag("--version", INTAGLIO_VERSION);
  app.footer(
      "Exit status: 0 all images classified, 1 some could not be read, 2 usage, 3 a file cannot "
      "be\n"
      "read or written, 4 the model is damaged or unsupported.");
  app.add_option("model", arguments.model, "Model file (.intg)")->required();
  app.add_option("images", arguments.inputs,
                 "Images (JPEG, PNG, BMP, PPM, PGM), folders (recursive), or - for paths on stdin");
  app.add_option("--top-k", arguments.top_k, "Classes to print per image")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20))
      ->capture_default_str();
  app.add_option("--threads", arguments.threads, "Threads; 0: one per available CPU")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--isa", arguments.isa, "Instruction set of the kernels")
      ->check(CLI::IsMember(isa_names()))
      ->capture_default_str();
  auto* json = app.add_flag("--json", arguments.json, "One JSON object per line");
  app.add_flag("--csv", arguments.csv, "One CSV row per image and class")->excludes(json);
  app.add_option(
      "--eval", arguments.eval,
      "Accuracy: a CSV file with columns file,label, or a folder of class-named folders");
  app.add_option("--logits", arguments.logits,
                 "Write the integer logits of all images (safetensors)");
  app.add_flag("--ignore-orientation", arguments.ignore_orientation,
               "Do not turn images as their EXIF orientation says");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kExitUsage;
  }
  if (arguments.inputs.empty() && arguments.eval.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "no images given; see --help");
  }
  const Model model = Model::load(arguments.model, load_options(arguments.isa));
  std::vector<InputImage> images = list_images(arguments.inputs);
  if (!arguments.inputs.empty() && images.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "no images found");
  }
  if (!arguments.eval.empty()) {
    images = list_labelled_images(arguments.eval, images, class_names(model));
  }
  return Run(arguments, model, images).run();
}

}  // namespace
}  // namespace intaglio

int main(int argc, char** argv) {
  return intaglio::run_program("intaglio-classify", [&] { return intaglio::run(argc, argv); });
}
