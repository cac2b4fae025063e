#include "converters/convert.h"

#include "converters/calibration_images.h"
#include "converters/default_method.h"
#include "converters/float_import.h"
#include "converters/fqvit_import.h"
#include "converters/lower_network.h"
#include "engine/thread_pool.h"
#include "graph/model_file.h"

namespace intaglio {
namespace {

constexpr std::size_t kMaxBatch = 1024;

void require_labels(const std::vector<std::string>& labels, const Network& network) {
  const std::size_t classes = network.layers.back().channels;
  if (!labels.empty() && labels.size() != classes) {
    throw Error(ErrorCode::kInvalidArgument, "expected " + std::to_string(classes) +
                                                 " labels, one per class, found " +
                                                 std::to_string(labels.size()));
  }
}

}  // namespace

std::vector<std::byte> quantize(const std::filesystem::path& checkpoint,
                                std::span<const std::filesystem::path> images,
                                const QuantizeOptions& options) {
  if (images.empty()) throw Error(ErrorCode::kInvalidArgument, "no images to calibrate on");
  if (options.batch < 1 || options.batch > kMaxBatch) {
    throw Error(ErrorCode::kInvalidArgument, "expected batches of 1 to " +
                                                 std::to_string(kMaxBatch) + " images, found " +
                                                 std::to_string(options.batch));
  }
  FloatImportOptions import;
  import.heads = options.heads;
  import.preset = options.preset;
  import.config = options.config;
  Network network = network_of(import_float(Checkpoint::open(checkpoint, options.key), import));
  require_labels(options.labels, network);
  const std::size_t threads = options.threads == 0 ? available_cpus() : options.threads;
  CalibrationImages pixels;
  pixels.pixels = load_pixels(images, network.preprocessing, threads);
  pixels.count = images.size();
  pixels.batch = options.batch;
  describe_calibration(network, "default", images.size(), options.batch);
  const Calibration calibration = calibrate(network, pixels, options.progress, threads);
  return serialize_model(lower(network, calibration, options.labels));
}

std::vector<std::byte> import_calibrated(const std::filesystem::path& checkpoint,
                                         std::vector<std::string> labels) {
  const CalibratedNetwork imported = import_fqvit(Safetensors::open(checkpoint));
  require_labels(labels, imported.network);
  return serialize_model(lower(imported.network, imported.calibration, std::move(labels)));
}

}  // namespace intaglio
