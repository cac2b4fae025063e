#include "converters/quantize_options.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <string_view>

#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDescription =
    "Turn a float checkpoint of a ViT, DeiT or Swin into a model, with photos to calibrate on.\n"
    "The model is written when it is complete, before it is evaluated. An image for calibration\n"
    "that cannot be read is an error, because another set of images makes another model.";

constexpr const char* kImages =
    "Photos to calibrate on; repeatable. Files (JPEG, PNG, BMP, PPM, PGM); lists (.txt, .lst: a "
    "path per line, relative to the list; -: paths on stdin), whose order is kept; folders "
    "(recursive), whose images follow in a shuffled order that is always the same";

void add_method_options(CLI::App& command, QuantizeArguments& arguments) {
  command.add_option("--method", arguments.method, "How to quantize: our own way, or the paper's")
      ->check(CLI::IsMember({"default", "fqvit"}))
      ->capture_default_str();
  command
      .add_option("--observer", arguments.observer,
                  "Ranges of activations, with --method fqvit [minmax]")
      ->check(CLI::IsMember({"minmax", "ema", "percentile", "omse"}));
  command
      .add_option("--attention-bits", arguments.attention_bits,
                  "Attention map, with --method fqvit: 4 bits on a logarithmic scale, or 8 on a "
                  "uniform one [4]")
      ->check(CLI::IsMember({4, 8}));
  command
      .add_option("--attention-codes", arguments.attention_codes,
                  "Outcomes of an attention code, with --method fqvit: 17 as in the reference, or "
                  "16 (strictly 4 bits) [17]")
      ->check(CLI::IsMember({16, 17}));
}

void add_import_options(CLI::App& command, QuantizeArguments& arguments) {
  FloatImportOptions& import = arguments.import;
  command.add_option("--key", arguments.key,
                     "Which dictionary of a PyTorch file, instead of the first usual one");
  command.add_option("--img-size", arguments.image_size,
                     "Pixels of a side of the input, or of a Swin HEIGHTxWIDTH; a ViT's positions "
                     "are resampled");
  command.add_flag("--tokens", import.token_feature,
                   "Of a ViT: make all tokens of the last block a feature, beside the class token");
  command.add_option("--heads", import.heads, "Attention heads, where no file tells");
  command.add_option("--config", import.config, "config.json [beside the checkpoint]");
  command.add_option("--preset", import.preset,
                     "Recipe of preprocessing: deit, vit, vit-augreg, swin, imagenet");
  command.add_option("--mean", arguments.mean, "Of RGB / 255: three numbers, R,G,B")
      ->delimiter(',')
      ->expected(3);
  command.add_option("--std", arguments.std, "Of RGB / 255: three numbers, R,G,B")
      ->delimiter(',')
      ->expected(3);
  command.add_option("--crop-pct", import.crop_pct, "Longer cropped side / resized shorter side")
      ->check(CLI::Range(0.5, 1.0));
  command.add_option("--interpolation", arguments.interpolation, "Filter of resizing")
      ->check(CLI::IsMember({"bilinear", "bicubic"}));
}

std::optional<std::array<double, 3>> three(const std::vector<double>& values) {
  if (values.empty()) return {};
  return std::array{values[0], values[1], values[2]};
}

/// "224", or "800x1216" of height and width.
ImageSize parse_image_size(const std::string& text) {
  const auto pixels = [&](std::string_view digits) {
    std::size_t number = 0;
    const char* end = digits.data() + digits.size();
    const auto [rest, error] = std::from_chars(digits.data(), end, number);
    if (error != std::errc() || rest != end) {
      throw Error(
          ErrorCode::kInvalidArgument,
          "--img-size: expected pixels of a side, or HEIGHTxWIDTH, found " + printable(text));
    }
    return number;
  };
  const std::string_view all = text;
  const std::size_t x = all.find('x');
  const std::size_t height = pixels(all.substr(0, x));
  return {height, x == all.npos ? height : pixels(all.substr(x + 1))};
}

/// That it can be written is better known before calibration than after it.
void check_output(const QuantizeArguments& arguments, const fs::path& model) {
  std::error_code ignored;
  if (fs::is_directory(model, ignored)) {
    throw Error(ErrorCode::kIo, model.string() + ": expected a file to write, found a folder");
  }
  std::vector<fs::path> inputs = {arguments.checkpoint, arguments.labels, arguments.eval,
                                  arguments.import.config};
  inputs.insert(inputs.end(), arguments.images.begin(), arguments.images.end());
  for (const fs::path& input : inputs) {
    if (fs::equivalent(model, input, ignored)) {
      throw Error(ErrorCode::kInvalidArgument,
                  model.string() + ": would replace a file that is read, " + input.string());
    }
  }
  fs::path folder = fs::weakly_canonical(model, ignored).parent_path();
  if (folder.empty()) folder = ".";
  const bool device = fs::exists(model, ignored) && !fs::is_regular_file(model, ignored);
  if (!device && ::access(folder.c_str(), W_OK) != 0) {
    throw Error(ErrorCode::kIo, model.string() + ": cannot create a file in this folder");
  }
}

/// Files to write, some of them perhaps empty.
void require_different(const std::vector<fs::path>& outputs) {
  std::set<fs::path> seen;
  for (const fs::path& path : outputs) {
    std::error_code ignored;
    if (!path.empty() && !seen.insert(fs::weakly_canonical(path, ignored)).second) {
      throw Error(ErrorCode::kInvalidArgument, path.string() + ": two outputs have this name");
    }
  }
}

}  // namespace

CLI::App* add_quantize_command(CLI::App& app, QuantizeArguments& arguments) {
  CLI::App* command = app.add_subcommand("quantize", kDescription);
  command->footer(
      "Exit status: 0 done, 1 done, but images of the evaluation could not be read, 2 usage, 3 a\n"
      "file cannot be read or written, 4 a file is damaged or unsupported.");
  command
      ->add_option(
          "checkpoint", arguments.checkpoint,
          "Floats of timm, Microsoft, Hugging Face or JAX: safetensors (or its index), PyTorch "
          ".pth/.pt, NumPy .npz")
      ->required();
  command->add_option("--images", arguments.images, kImages)->required()->type_name("PATH");
  command->add_option("-o,--output", arguments.model, "Model to write")->required();
  command->add_option("--labels", arguments.labels, "Class names, one per line");
  command
      ->add_option("--limit", arguments.limit,
                   "Images to take in all, from the front [all files, 128 of the folders']")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20));
  command->add_option("--batch", arguments.batch, "Images that observers see at a time")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1024}))
      ->capture_default_str();
  add_method_options(*command, arguments);
  add_import_options(*command, arguments);
  command->add_option("--eval", arguments.eval,
                      "Compare with the float network on labelled images: a CSV file with columns "
                      "file,label, or a folder of class-named folders");
  command->add_option("--report", arguments.report,
                      "HTML page on the accuracy of every layer, on up to 64 images: those of "
                      "--eval, or of the calibration");
  command->add_option("--report-json", arguments.report_json, "The same as JSON");
  command->add_option("--threads", arguments.threads, "Threads; 0: one per available CPU")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_flag("--json", arguments.json, "One JSON object with everything, instead of text");
  return command;
}

void complete(QuantizeArguments& arguments) {
  const bool paper = arguments.method == "fqvit";
  const char* alone = !arguments.observer.empty() ? "--observer"
                      : arguments.attention_bits  ? "--attention-bits"
                      : arguments.attention_codes ? "--attention-codes"
                                                  : nullptr;
  if (!paper && alone != nullptr) {
    throw Error(
        ErrorCode::kInvalidArgument,
        std::string(alone) + " is a choice of --method fqvit, found --method " + arguments.method);
  }
  if (paper) {
    if (arguments.observer.empty()) arguments.observer = "minmax";
    arguments.attention_bits = arguments.attention_bits.value_or(4);
    if (*arguments.attention_bits == 8 && arguments.attention_codes) {
      throw Error(ErrorCode::kInvalidArgument,
                  "--attention-codes is a choice of --attention-bits 4, found 8");
    }
    arguments.attention_codes = arguments.attention_codes.value_or(17);
  }
  if (std::count(arguments.images.begin(), arguments.images.end(), "-") > 1) {
    throw Error(ErrorCode::kInvalidArgument, "--images - can be given once");
  }
  if (!arguments.image_size.empty()) {
    arguments.import.image_size = parse_image_size(arguments.image_size);
  }
  arguments.import.mean = three(arguments.mean);
  arguments.import.std = three(arguments.std);
  if (!arguments.interpolation.empty()) {
    arguments.import.interpolation =
        arguments.interpolation == "bicubic" ? Interpolation::kBicubic : Interpolation::kBilinear;
  }
  require_different({arguments.model, arguments.report, arguments.report_json});
  for (const fs::path& path : {arguments.model, arguments.report, arguments.report_json}) {
    if (!path.empty()) check_output(arguments, path);
  }
}

}  // namespace intaglio
