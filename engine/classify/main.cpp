// intaglio-classify: names what is on images.
#include <CLI/CLI.hpp>
#include <charconv>
#include <cstring>

#include "engine/classify/batch.h"
#include "engine/classify/merge.h"
#include "engine/program.h"
#include "graph/error.h"

namespace intaglio {
namespace {

struct Arguments {
  std::filesystem::path model;
  std::string isa = "auto", shard = "0/1";
  bool json = false, csv = false, ignore_orientation = false;
  BatchOptions batch;
};

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

Shard parse_shard(const std::string& text) {
  Shard shard;
  const char* const end = text.data() + text.size();
  const auto [slash, error] = std::from_chars(text.data(), end, shard.index);
  if (error == std::errc() && slash != end && *slash == '/') {
    const auto [rest, wrong] = std::from_chars(slash + 1, end, shard.count);
    if (wrong == std::errc() && rest == end && shard.index < shard.count) return shard;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "--shard: expected i/n with 0 <= i < n, found '" + text + "'");
}

void add_outputs(CLI::App& app, Arguments& arguments) {
  BatchOptions& batch = arguments.batch;
  auto* json = app.add_flag("--json", arguments.json, "One JSON object per line");
  app.add_flag("--csv", arguments.csv, "One CSV row per image and class")->excludes(json);
  app.add_option("--output,-o", batch.output, "File for the rows instead of standard output");
  auto* resume = app.add_flag("--resume", batch.resume,
                              "Go on where an earlier run stopped: rows of --output are kept");
  app.add_flag("--overwrite", batch.overwrite, "Replace files of an earlier run")->excludes(resume);
  app.add_option("--shard", arguments.shard,
                 "i/n: only images i, i + n, i + 2n ... of the list, from 0")
      ->capture_default_str();
  app.add_option("--logits", batch.logits,
                 "Write the integer logits to PREFIX-00000.safetensors ...")
      ->option_text("PREFIX");
  auto* features = app.add_option("--features", batch.features,
                                  "Write features as floats to PREFIX-00000.safetensors ...");
  features->option_text("PREFIX");
  app.add_option("--feature", batch.wanted.features,
                 "Which features (class_token, tokens; stage1 ...); all unless given")
      ->needs(features)
      ->option_text("NAME ...")
      ->allow_extra_args(false);
  app.add_option("--rows-per-file", batch.rows_per_file,
                 "Images per file of logits and features; 0: what fills 64 MiB, at most 4096")
      ->check(CLI::Range(std::size_t{0}, std::size_t{1} << 16))
      ->capture_default_str();
}

void add_options(CLI::App& app, Arguments& arguments) {
  BatchOptions& batch = arguments.batch;
  app.add_option("model", arguments.model, "Model file (.intg)")->required();
  app.add_option("images", batch.inputs,
                 "Images (JPEG, PNG, BMP, PPM, PGM), folders (recursive), lists (.txt, .lst), tar "
                 "files, quoted patterns, or - for paths on stdin");
  app.add_option("--top-k", batch.wanted.top_k, "Classes to print per image")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20))
      ->capture_default_str();
  app.add_option("--threads", batch.threads, "Threads; 0: one per available CPU")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--isa", arguments.isa, "Instruction set of the kernels")
      ->check(CLI::IsMember(isa_names()))
      ->capture_default_str();
  app.add_option(
      "--eval", batch.eval,
      "Accuracy: a CSV file with columns file,label, or a folder of class-named folders");
  app.add_option("--max-failures", batch.max_failures,
                 "Give up after so many images that cannot be read; 0: never")
      ->capture_default_str();
  app.add_flag("--ignore-orientation", arguments.ignore_orientation,
               "Do not turn images as their EXIF orientation says");
  add_outputs(app, arguments);
}

/// Where a prefix leads, however it is written.
std::filesystem::path place_of(const std::string& prefix) {
  return std::filesystem::weakly_canonical(std::filesystem::absolute(prefix + '-'));
}

/// What one option means for others.
void check_options(Arguments& arguments) {
  BatchOptions& batch = arguments.batch;
  const auto usage = [](const char* text) { throw Error(ErrorCode::kInvalidArgument, text); };
  batch.format = arguments.json  ? RowFormat::kJson
                 : arguments.csv ? RowFormat::kCsv
                                 : RowFormat::kText;
  batch.shard = parse_shard(arguments.shard);
  batch.limits.apply_orientation = !arguments.ignore_orientation;
  if (batch.inputs.empty() && batch.eval.empty()) usage("no images given; see --help");
  if (batch.resume && (batch.output.empty() || batch.format == RowFormat::kText)) {
    usage("--resume needs --output with --json or --csv");
  }
  if (!batch.logits.empty() && !batch.features.empty() &&
      place_of(batch.logits) == place_of(batch.features)) {
    usage("--logits and --features need different prefixes");
  }
  if (!batch.eval.empty() && (batch.resume || batch.shard.count != 1)) {
    usage("--eval needs all images in one run, without --resume and --shard");
  }
}

int classify(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"Names what is on images, with integer arithmetic only."};
  app.set_version_flag("--version", INTAGLIO_VERSION);
  app.footer(
      "intaglio-classify merge --help: merges the outputs of all shards.\n"
      "Exit status: 0 all images classified, 1 some could not be read, 2 usage, 3 a file cannot "
      "be\n"
      "read or written, 4 the model is damaged or unsupported, 5 --max-failures.");
  add_options(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kExitUsage;
  }
  check_options(arguments);
  const Model model = Model::load(arguments.model, load_options(arguments.isa));
  BatchOptions& batch = arguments.batch;
  if (!batch.features.empty() && batch.wanted.features.empty()) {
    batch.wanted.features = model.features();
    if (batch.wanted.features.empty()) {
      throw Error(ErrorCode::kInvalidArgument, "--features: the model has none");
    }
  }
  return run_batch(batch, model);
}

}  // namespace
}  // namespace intaglio

int main(int argc, char** argv) {
  return intaglio::run_program("intaglio-classify", [&] {
    const bool merge = argc > 1 && std::strcmp(argv[1], "merge") == 0;
    return merge ? intaglio::merge_command(argc - 1, argv + 1) : intaglio::classify(argc, argv);
  });
}
