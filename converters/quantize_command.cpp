#include "converters/quantize_command.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "converters/calibrate.h"
#include "converters/calibration_images.h"
#include "converters/class_labels.h"
#include "converters/default_method.h"
#include "converters/evaluate.h"
#include "converters/lower_network.h"
#include "converters/report.h"
#include "engine/program.h"
#include "engine/thread_pool.h"
#include "graph/error.h"
#include "graph/model_file.h"

namespace intaglio {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t kFewImages = 16;
constexpr std::size_t kReportImages = 64;

ObserverKind observer_kind(const std::string& name) {
  if (name == "ema") return ObserverKind::kEma;
  if (name == "percentile") return ObserverKind::kPercentile;
  if (name == "omse") return ObserverKind::kOmse;
  return ObserverKind::kMinmax;
}

/// The choice of method, and all that depends on it. The default method moves factors between the
/// layers of `network`.
Calibration calibrate_by(const QuantizeArguments& arguments, Network& network,
                         const CalibrationImages& images, const ReportProgress& progress) {
  if (arguments.method == "default") {
    return calibrate(network, images, progress, arguments.threads);
  }
  const SoftmaxForm softmax =
      *arguments.attention_bits == 8 ? SoftmaxForm::kUniform : SoftmaxForm::kLogInt;
  Calibration calibration = calibrate_as_paper(network, images, observer_kind(arguments.observer),
                                               softmax, progress, arguments.threads);
  calibration.zero_code = *arguments.attention_codes - 1;
  return calibration;
}

void warn(const std::string& message) {
  std::fprintf(stderr, "intaglio-convert: warning: %s\n", terminal_text(message).c_str());
}

std::vector<std::string> class_names(std::vector<std::string> labels, std::size_t classes) {
  for (std::size_t i = labels.size(); i < classes; ++i) labels.push_back(std::to_string(i));
  return labels;
}

Json architecture_of(const Vit& vit) {
  return {{"family", "vit"},       {"image_size", vit.image_size},
          {"patch", vit.patch},    {"blocks", vit.blocks.size()},
          {"dim", vit.dim},        {"hidden", vit.blocks.empty() ? 0 : vit.blocks[0].fc1.n},
          {"heads", vit.heads},    {"prefix_tokens", vit.prefix()},
          {"classes", vit.classes}};
}

/// Lists have a number per stage, but of height and width.
Json architecture_of(const Swin& swin) {
  Json facts = {{"family", "swin"},        {"image_size", {swin.image_height, swin.image_width}},
                {"patch", swin.patch},     {"dim", swin.dim},
                {"classes", swin.classes}, {"blocks", Json::array()},
                {"hidden", Json::array()}, {"heads", Json::array()},
                {"windows", Json::array()}};
  for (const SwinStage& stage : swin.stages) {
    facts["blocks"].push_back(stage.blocks.size());
    facts["hidden"].push_back(stage.blocks.at(0).fc1.n);
    facts["heads"].push_back(stage.heads);
    facts["windows"].push_back(stage.window);
  }
  return facts;
}

/// One quantization; the facts of each stage go into `facts`, and as text to standard output
/// unless JSON is wanted.
class Run {
 public:
  explicit Run(const QuantizeArguments& arguments) : arguments_(arguments) {}

  int run() {
    stage("read", [&] { read(); });
    stage("decode", [&] { decode(); });
    Calibration calibration;
    stage("calibrate", [&] {
      Progress progress(images_.count, "images calibrated");
      calibration = calibrate_by(arguments_, network_, images_, [&](double share) {
        const double done = share * static_cast<double>(images_.count);
        progress.update(static_cast<std::size_t>(std::lround(done)));
      });
    });
    stage("lower", [&] { lower_to_bytes(calibration); });
    stage("write", [&] { write_output(arguments_.model, bytes_); });
    tell_result();
    bool all_read = true;
    if (!arguments_.eval.empty()) stage("evaluate", [&] { all_read = evaluate(); });
    if (!arguments_.report.empty() || !arguments_.report_json.empty()) {
      stage("report", [&] { report(calibration); });
    }
    finish();
    return all_read ? 0 : kExitSomeFailed;
  }

 private:
  template <typename Body>
  void stage(const char* name, const Body& body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    facts_["seconds"][name] = passed.count();
  }
  /// A line for people, at once: what follows may take minutes.
  void tell(const std::string& line) const {
    if (arguments_.json) return;
    std::cout << terminal_text(line) << '\n' << std::flush;
  }

  void read() {
    // What is cheap to find wrong comes first.
    const SelectedImages selected = select_images(arguments_.images, arguments_.limit);
    if (selected.paths.empty()) {
      throw Error(ErrorCode::kInvalidArgument, "no images to calibrate on were found");
    }
    paths_ = selected.paths;
    const Checkpoint checkpoint = Checkpoint::open(arguments_.checkpoint, arguments_.key);
    ImportedModel imported = import_float(checkpoint, arguments_.import);
    tell_model(checkpoint, imported);
    network_ = network_of(std::move(imported));
    tell_network();
    const std::size_t classes = network_.layers.back().channels;
    if (!arguments_.labels.empty()) labels_ = read_labels(arguments_.labels, classes);
    if (!arguments_.eval.empty()) {
      labelled_ = list_labelled_images(arguments_.eval, {}, class_names(labels_, classes));
      if (labelled_.empty()) {
        throw Error(ErrorCode::kInvalidArgument,
                    arguments_.eval.string() + ": no images to evaluate on were found");
      }
    }
    tell_plan(selected.found);
  }

  void tell_model(const Checkpoint& checkpoint, const ImportedModel& imported) {
    facts_["checkpoint"] = {{"path", arguments_.checkpoint.string()},
                            {"container", checkpoint.container()},
                            {"scheme", imported.scheme}};
    facts_["architecture"] =
        std::visit([](const auto& model) { return architecture_of(model); }, imported.model);
    facts_["architecture"]["heads_source"] = imported.heads_source;
    facts_["preprocessing"]["source"] = imported.preprocessing_source;
    facts_["notes"] = imported.notes;
    tell("checkpoint:    " + arguments_.checkpoint.string() + ", " + checkpoint.container() +
         ", names of " + imported.scheme);
  }

  void tell_network() {
    Json& architecture = facts_["architecture"];
    const auto fact = [&](const char* key) { return architecture.at(key).dump(); };
    architecture["multiply_accumulates"] = network_.multiply_accumulates();
    const std::string classes =
        architecture.at("classes") != 0
            ? fact("classes") + " classes"
            : "no classifier: " + std::to_string(network_.layers.back().channels) +
                  " pooled features instead of logits";
    tell("model:         " + sizes_text(network_) + " (" +
         architecture.at("heads_source").get<std::string>() + "), patches of " + fact("patch") +
         " pixels, " + classes);
    const Preprocessing& p = network_.preprocessing;
    const char* filter = p.interpolation == Interpolation::kBicubic ? "bicubic" : "bilinear";
    Json& facts = facts_["preprocessing"];
    facts.update({{"resize", p.resize},
                  {"height", p.height},
                  {"width", p.width},
                  {"interpolation", filter},
                  {"mean", p.mean},
                  {"std", p.std}});
    char text[160];
    std::snprintf(text, sizeof text, "mean %.4g %.4g %.4g, std %.4g %.4g %.4g", p.mean[0],
                  p.mean[1], p.mean[2], p.std[0], p.std[1], p.std[2]);
    tell("preprocessing: shorter side to " + std::to_string(p.resize) + " (" + filter +
         "), centre of " + std::to_string(p.height) + "x" + std::to_string(p.width) + ", " + text);
    tell("               from " + facts["source"].get<std::string>());
    for (const Json& note : facts_["notes"]) tell("note:          " + note.get<std::string>());
  }

  void tell_plan(std::size_t found) {
    Json& images =
        facts_["images"] = {{"found", found}, {"used", paths_.size()}, {"batch", arguments_.batch}};
    for (const fs::path& path : paths_) images["paths"].push_back(path.string());
    tell("images:        " + std::to_string(paths_.size()) + " of " + std::to_string(found) +
         " to calibrate on, in batches of " + std::to_string(arguments_.batch));
    if (paths_.size() < kFewImages) {
      warn("only " + std::to_string(paths_.size()) +
           " images to calibrate on; ranges of activations want about 100");
    }
    std::string method = arguments_.method;
    facts_["method"]["name"] = method;
    if (method == "fqvit") {
      facts_["method"]["observer"] = arguments_.observer;
      facts_["method"]["attention_bits"] = *arguments_.attention_bits;
      method += ", observer " + arguments_.observer + ", attention of " +
                std::to_string(*arguments_.attention_bits) + " bits";
      if (*arguments_.attention_bits == 4) {
        facts_["method"]["attention_codes"] = *arguments_.attention_codes;
        method += " in " + std::to_string(*arguments_.attention_codes) + " codes";
      }
    }
    tell("method:        " + method);
    describe_calibration(network_, method, paths_.size(), arguments_.batch);
  }

  void decode() {
    Progress progress(paths_.size(), "images decoded");
    images_.pixels = load_pixels(paths_, network_.preprocessing, arguments_.threads,
                                 [&](std::size_t done) { progress.update(done); });
    images_.count = paths_.size();
    images_.batch = arguments_.batch;
  }

  void lower_to_bytes(const Calibration& calibration) {
    graph_ = lower(network_, calibration, labels_);
    bytes_ = serialize_model(graph_);
    facts_["model"] = {{"path", arguments_.model.string()},
                       {"bytes", bytes_.size()},
                       {"parameter_bytes", constant_bytes(graph_)}};
  }

  void tell_result() {
    double total = 0;
    std::string stages;
    for (const auto& [name, seconds] : facts_["seconds"].items()) {
      char text[64];
      std::snprintf(text, sizeof text, ", %s %.1f s", name.c_str(), seconds.get<double>());
      stages += text;
      total += seconds.get<double>();
    }
    char text[64];
    std::snprintf(text, sizeof text, ": %.2f MB in %.1f s",
                  static_cast<double>(bytes_.size()) / 1e6, total);
    tell(arguments_.model.string() + text + " (" + stages.substr(2) + ")");
  }

  /// Whether all images could be read.
  bool evaluate() {
    const Model model = Model::parse(bytes_, arguments_.model.string());
    Progress progress(labelled_.size(), "images compared");
    EvaluateOptions options;
    options.threads = arguments_.threads;
    options.progress = [&](std::size_t done) { progress.update(done); };
    options.failed = [&](const std::string& message) {
      progress.clear();
      warn(message);
    };
    const Evaluation a = intaglio::evaluate(network_, model, labelled_, options);
    progress.clear();
    const auto percent = [&](std::size_t part) {
      return 100 * double(part) / double(std::max<std::size_t>(a.fit.images, 1));
    };
    const double of_float = percent(a.fit.float_right);
    const double of_integer = percent(a.fit.integer_right);
    const double agreement = percent(a.fit.agreeing);
    facts_["accuracy"] = {{"images", a.fit.images}, {"failed", a.failed},
                          {"float_top1", of_float}, {"integer_top1", of_integer},
                          {"agreement", agreement}, {"logit_rmse", a.fit.logit_rmse}};
    char text[160];
    std::snprintf(text, sizeof text,
                  "%zu images: top-1 float %.2f %%, integer %.2f %%, agreement %.2f %%, "
                  "RMSE of logits %.4f",
                  a.fit.images, of_float, of_integer, agreement, a.fit.logit_rmse);
    tell(text);
    return a.failed == 0;
  }

  /// On labelled images where there are some: those of the calibration flatter.
  void report(const Calibration& calibration) {
    std::vector<fs::path> paths;
    std::vector<std::size_t> all_labels, labels;
    const std::size_t wanted = std::min(kReportImages, labelled_.size());
    for (std::size_t i = 0; i < wanted; ++i) {  // spread over all
      const LabelledImage& image = labelled_[i * labelled_.size() / wanted];
      paths.push_back(image.path);
      all_labels.push_back(image.label);
    }
    // What cannot be read has been told by the evaluation.
    ReadableImages readable = load_readable(paths, network_.preprocessing, arguments_.threads);
    for (const std::size_t i : readable.read) labels.push_back(all_labels[i]);
    std::vector<std::uint8_t>& pixels = readable.pixels;
    std::size_t count = labels.size();
    if (count == 0) {
      count = std::min(kReportImages, images_.count);
      const std::size_t bytes = images_.pixels.size() / images_.count * count;
      pixels.assign(images_.pixels.begin(), images_.pixels.begin() + std::ptrdiff_t(bytes));
    }
    Progress progress(count, "images reported on");
    AccuracyReport made;
    made.model = arguments_.checkpoint.filename().string();
    made.method = network_.provenance.at("method");
    made.accuracy = compare(network_, calibration, graph_, pixels, count, labels,
                            arguments_.threads, [&](double share) {
                              const double done = share * static_cast<double>(count);
                              progress.update(static_cast<std::size_t>(std::lround(done)));
                            });
    progress.clear();
    const auto write = [](const fs::path& path, const std::string& text) {
      if (!path.empty()) write_output(path, std::as_bytes(std::span(text)));
    };
    write(arguments_.report, html_report(made));
    write(arguments_.report_json, json_report(made));
    for (const fs::path& path : {arguments_.report, arguments_.report_json}) {
      if (!path.empty()) tell(path.string() + ": " + std::to_string(count) + " images");
    }
  }

  void finish() {
    if (arguments_.json) {
      std::cout << facts_.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
    }
    std::cout.flush();
    if (!std::cout) throw Error(ErrorCode::kIo, "cannot write to standard output");
  }

  const QuantizeArguments& arguments_;
  Network network_;
  std::vector<fs::path> paths_;
  CalibrationImages images_;
  std::vector<std::string> labels_;
  std::vector<LabelledImage> labelled_;
  Graph graph_;
  std::vector<std::byte> bytes_;  // of the model file
  Json facts_;
};

}  // namespace

int run_quantize(QuantizeArguments arguments) {
  complete(arguments);
  if (arguments.threads == 0) arguments.threads = available_cpus();
  return Run(arguments).run();
}

}  // namespace intaglio
