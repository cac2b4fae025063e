// Typed, shape-checked access to a calibrated FQ-ViT checkpoint: what fqvit_import.cpp reads
// networks with.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "converters/calibration.h"
#include "converters/network.h"
#include "graph/preprocessing.h"
#include "graph/safetensors.h"

namespace intaglio {

/// Remembers what was read, and collects the grids on the way. Throws Error that names the file and
/// the tensor or metadata key.
class FqvitReader {
 public:
  using Shape = std::vector<std::size_t>;

  /// The metadata must tell the format.
  explicit FqvitReader(const Safetensors& file);

  [[noreturn]] void fail(const std::string& what) const;
  [[noreturn]] void unsupported(const std::string& what) const;

  /// Whether any tensor's name starts like this.
  bool has_any(const std::string& prefix) const;
  const TensorView& tensor(const std::string& name);
  /// The tensor's shape is not what `expected` says.
  [[noreturn]] void fail_shape(const std::string& name, const std::string& expected);
  std::vector<float> floats(const std::string& name, const Shape& shape);
  FloatNorm norm(const std::string& module, std::size_t dim);
  /// A linear layer whose weight is stored as `shape`, [n, k] or a convolution's, with the grid of
  /// its weight.
  FloatLinear linear(const std::string& module, const Shape& shape, bool has_bias = true);
  /// The grid of an activation: one scale; or a power of two for each channel.
  void uniform(const std::string& module);
  void ptf(const std::string& module, std::size_t dim);
  /// Everything in the file must have been read: an unknown layer would be left out silently.
  void require_all_read(const char* graph) const;

  const std::string* metadata(const std::string& key) const;
  /// JSON of a metadata entry; null when absent.
  nlohmann::json metadata_json(const std::string& key) const;
  /// An entry of the metadata's `config`: a positive integer, a flag; or `fallback`.
  std::size_t positive(const std::string& key, std::size_t fallback) const;
  bool flag(const std::string& key, bool fallback) const;
  /// An entry of the `config`, where it is there, must be what was found.
  void require_config(const std::string& key, const nlohmann::json& found) const;
  /// For square images of `size` pixels.
  Preprocessing preprocessing(std::size_t size) const;
  std::map<std::string, std::string> provenance() const;

  Calibration calibration;

 private:
  std::vector<float> scales(const std::string& module, const Shape& shape);
  std::int32_t zero_point(const std::string& module);
  std::vector<float> weight_scales(const std::string& module, std::size_t n);
  std::array<double, 3> triple(const std::string& key) const;

  const Safetensors& file_;
  std::set<std::string> read_;
  nlohmann::json config_;
};

}  // namespace intaglio
