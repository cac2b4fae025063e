// intaglio-convert: checkpoints in, .intg models out.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "converters/class_labels.h"
#include "converters/fqvit_import.h"
#include "converters/list_tensors.h"
#include "converters/lower_network.h"
#include "converters/quantize_command.h"
#include "engine/program.h"
#include "graph/error.h"
#include "graph/model_file.h"
#include "graph/print.h"

namespace intaglio {
namespace {

struct ImportArguments {
  std::filesystem::path checkpoint, model, labels;
  int attention_codes = 17;
};

int run_import(const ImportArguments& arguments) {
  const Safetensors checkpoint = Safetensors::open(arguments.checkpoint);
  CalibratedNetwork imported = import_fqvit(checkpoint);
  const Network& network = imported.network;
  const std::size_t classes = network.layers.back().channels;
  std::vector<std::string> labels;
  if (!arguments.labels.empty()) labels = read_labels(arguments.labels, classes);
  imported.calibration.zero_code = arguments.attention_codes - 1;
  const Graph graph = lower(network, imported.calibration, std::move(labels));
  write_output(arguments.model, serialize_model(graph));
  std::printf("%s: %s, %zux%zu pixels, %zu classes, %.2f MB of parameters\n",
              terminal_text(arguments.model.string()).c_str(), sizes_text(network).c_str(),
              network.image_height, network.image_width, classes,
              static_cast<double>(constant_bytes(graph)) / 1e6);
  return 0;
}

int run_inspect(const std::filesystem::path& model, bool json) {
  const Graph graph = load_model_file(model);
  std::cout << (json ? print_json(graph) : print(graph)) << std::flush;
  if (!std::cout) throw Error(ErrorCode::kIo, "cannot write to standard output");
  return 0;
}

int run_tensors(const std::filesystem::path& path, const std::string& key, bool json) {
  const TensorList list = list_tensors(Checkpoint::open(path, key), json);
  std::cout << list.text << std::flush;
  if (!std::cout) throw Error(ErrorCode::kIo, "cannot write to standard output");
  return list.unreadable == 0 ? 0 : kExitSomeFailed;
}

int run(int argc, char** argv) {
  CLI::App app{"Makes and shows Intaglio models (.intg)."};
  app.set_version_flag("--version", INTAGLIO_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Exit status: 0 done, 1 some tensors, or images of an evaluation, cannot be read, 2 usage, 3 "
      "a\n"
      "file cannot be read or written, 4 a file is damaged or unsupported.");

  ImportArguments import;
  CLI::App* import_command = app.add_subcommand(
      "import", "Turn a calibrated FQ-ViT checkpoint (safetensors) into a model.");
  import_command->add_option("checkpoint", import.checkpoint, "Calibrated checkpoint")->required();
  import_command->add_option("-o,--output", import.model, "Model to write")->required();
  import_command->add_option("--labels", import.labels, "Class names, one per line");
  import_command
      ->add_option("--attention-codes", import.attention_codes,
                   "Outcomes of an attention code: 17 as in the reference, or 16 (strictly 4 bits)")
      ->check(CLI::IsMember({16, 17}))
      ->capture_default_str();

  QuantizeArguments quantize;
  CLI::App* quantize_command = add_quantize_command(app, quantize);

  std::filesystem::path model;
  bool json = false;
  CLI::App* inspect_command = app.add_subcommand("inspect", "Show what is in a model.");
  inspect_command->add_option("model", model, "Model file")->required();
  inspect_command->add_flag("--json", json, "One JSON object instead of a table");

  std::filesystem::path checkpoint;
  std::string key;
  CLI::App* tensors_command = app.add_subcommand(
      "tensors", "List a checkpoint's tensors (safetensors, PyTorch .pth/.pt, NumPy .npz).");
  tensors_command->add_option("checkpoint", checkpoint, "Checkpoint of floats")->required();
  tensors_command->add_option("--key", key,
                              "Which dictionary of a PyTorch file, instead of the first usual one");
  tensors_command->add_flag("--json", json, "One JSON object instead of a table");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kExitUsage;
  }
  if (import_command->parsed()) return run_import(import);
  if (quantize_command->parsed()) return run_quantize(quantize);
  if (tensors_command->parsed()) return run_tensors(checkpoint, key, json);
  return run_inspect(model, json);
}

}  // namespace
}  // namespace intaglio

int main(int argc, char** argv) {
  return intaglio::run_program("intaglio-convert", [&] { return intaglio::run(argc, argv); });
}
