// intaglio-bench: how fast models run here, and how far from what the CPU can do.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "bench/report.h"
#include "engine/program.h"
#include "engine/thread_pool.h"
#include "graph/model_file.h"

namespace intaglio {
namespace {

struct Arguments {
  std::vector<std::filesystem::path> models;
  std::vector<std::string> architectures;
  std::size_t image_size = 0;
  std::vector<std::string> methods{"default"};
  std::vector<std::string> isas{"best"};
  std::vector<std::size_t> threads{1}, batches{1};
  double seconds = 2;
  std::string steps = "grouped";
  bool json = false, csv = false, load_only = false;
  std::filesystem::path trace;
};

/// The levels asked for, each once. `all` are those the CPU has.
std::vector<Isa> levels(const std::vector<std::string>& names) {
  std::vector<Isa> isas;
  const auto add = [&](Isa isa) {
    if (std::find(isas.begin(), isas.end(), isa) == isas.end()) isas.push_back(isa);
  };
  for (const std::string& name : names) {
    if (name == "best") add(best_isa());
    for (const Isa isa : kernels::kAllIsas) {
      if (name == isa_name(isa) || (name == "all" && kernels::cpu_supports(isa))) add(isa);
    }
  }
  return isas;
}

std::vector<std::string> level_names() {
  std::vector<std::string> names{"best", "all"};
  for (const Isa isa : kernels::kAllIsas) names.emplace_back(isa_name(isa));
  return names;
}

/// All combinations: models outermost, batches innermost. Synthetic models live in `memory`.
std::vector<Configuration> list_rows(const Arguments& arguments, std::vector<MemoryFile>& memory) {
  std::vector<Configuration> models;
  for (const std::filesystem::path& path : arguments.models) {
    models.push_back({path.string(), path});
  }
  for (const std::string& name : arguments.architectures) {
    const Architecture& architecture = find_architecture(name);
    for (const std::string& method : arguments.methods) {
      const bool paper = method == "fqvit";
      memory.emplace_back(serialize_model(
          synthetic_model(architecture, arguments.image_size,
                          paper ? SyntheticMethod::kFqvit : SyntheticMethod::kDefault)));
      std::string row = name + (paper ? ":fqvit" : "");
      if (arguments.image_size != 0) row += fmt::format("@{}", arguments.image_size);
      models.push_back({row, memory.back().path()});
    }
  }
  std::vector<Configuration> rows;
  for (Configuration row : models) {
    for (row.isa = Isa::kScalar; const Isa isa : levels(arguments.isas)) {
      for (const std::size_t threads : arguments.threads) {
        for (const std::size_t batch : arguments.batches) {
          row.isa = isa, row.threads = threads == 0 ? available_cpus() : threads, row.batch = batch;
          rows.push_back(row);
        }
      }
    }
  }
  return rows;
}

std::string architecture_names() {
  std::string names;
  for (const Architecture& a : architectures())
    names += (names.empty() ? "" : ", ") + std::string(a.name);
  return names;
}

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_option("models", arguments.models, "Model files (.intg)");
  app.add_option("--arch", arguments.architectures,
                 "Models with pseudo-random parameters, no file needed: " + architecture_names())
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--method", arguments.methods,
                 "Form of --arch's models, as quantize --method makes it")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"default", "fqvit"}))
      ->capture_default_str();
  app.add_option("--img-size", arguments.image_size, "Pixels of a side, for --arch")
      ->check(CLI::Range(std::size_t{1}, std::size_t{4096}));
  app.add_option("--isa", arguments.isas, "Instruction sets of the kernels")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember(level_names()))
      ->capture_default_str();
  app.add_option("--threads", arguments.threads, "Threads; 0: one per available CPU")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--batch", arguments.batches,
                 "Images per call: one is shared by all threads, of several each thread takes one "
                 "at a time")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--seconds", arguments.seconds, "Timed calls per row")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
  app.add_option("--steps", arguments.steps,
                 "Table of steps: those that differ in numbers alone together, each, or none")
      ->check(CLI::IsMember({"grouped", "all", "none"}))
      ->capture_default_str();
  auto* json = app.add_flag("--json", arguments.json, "One JSON object per row and line");
  app.add_flag("--csv", arguments.csv, "One CSV row per row, without steps")->excludes(json);
  app.add_option("--trace", arguments.trace,
                 "Write one inference's steps for chrome://tracing or ui.perfetto.dev (JSON)");
  app.add_flag("--load-only", arguments.load_only, "Load and run once; print ms and MB")->group("");
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{
      "Measures models: latency, throughput, memory, time per step, and the distance to what the "
      "CPU can do.\nLists separated by commas make one row per combination; all rows are timed in "
      "turns."};
  app.set_version_flag("--version", INTAGLIO_VERSION);
  app.footer(
      "floor ms: the multiply-accumulates at the peak that this run measured in registers; ratio: "
      "median / floor;\nspread: (p90 - min) / median. docs/benchmarks.md has the definitions.\n"
      "Exit status: 0 done, 2 usage, 3 a file cannot be read or written, 4 a model is damaged, "
      "unsupported,\nor gives a wrong answer.");
  add_options(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kExitUsage;
  }
  std::vector<MemoryFile> memory;
  const std::vector<Configuration> rows = list_rows(arguments, memory);
  if (rows.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "no model given, nor --arch; see --help");
  }
  if (arguments.load_only) {
    report_load_cost(rows[0].path, rows[0].isa, rows[0].threads, rows[0].batch);
    return 0;
  }
  MeasureOptions options;
  options.seconds = arguments.seconds;
  options.timeline = !arguments.trace.empty();
  options.steps = arguments.steps == "all"    ? StepDetail::kAll
                  : arguments.steps == "none" ? StepDetail::kNone
                                              : StepDetail::kGrouped;
  const Machine machine = describe_machine();
  const std::vector<Measurement> results = measure(rows, options);
  if (!arguments.trace.empty()) {
    const std::string text = trace(results);
    write_file_atomically(arguments.trace, std::as_bytes(std::span(text)));
  }
  std::cout << (arguments.json  ? json_report(machine, results)
                : arguments.csv ? csv_report(machine, results)
                                : text_report(machine, results))
            << std::flush;
  if (!std::cout) throw Error(ErrorCode::kIo, "cannot write to standard output");
  for (const std::string& line : warnings(results)) {
    fmt::print(stderr, "intaglio-bench: {}\n", terminal_text(line));
  }
  return 0;
}

}  // namespace
}  // namespace intaglio

int main(int argc, char** argv) {
  return intaglio::run_program("intaglio-bench", [&] { return intaglio::run(argc, argv); });
}
