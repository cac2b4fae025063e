// What importing a float checkpoint takes, whatever its family.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "converters/checkpoint_config.h"
#include "converters/expected_tensors.h"
#include "converters/float_import.h"
#include "converters/presets.h"
#include "graph/error.h"

namespace intaglio {

/// One import; a family's importer derives from it.
class FloatImporter {
 protected:
  using Shape = ExpectedTensors::Shape;

  FloatImporter(const Checkpoint& checkpoint, const FloatImportOptions& options, ModelFamily family)
      : checkpoint_(checkpoint),
        options_(options),
        config_(read_checkpoint_config(checkpoint, options.config, family)) {
    result_.notes = config_.notes;
  }
  ~FloatImporter() = default;

  [[noreturn]] void fail(ErrorCode code, const std::string& what) const;
  [[noreturn]] void fail_shape(const std::string& tensor, const std::string& expected) const;
  /// Of a tensor that must be there.
  const Shape& shape(const std::string& tensor) const;
  /// found(claim): what the tensors say of a size, and which; 0: nothing.
  template <typename Found>
  void check_claims(const Found& found) const {
    for (const SizeClaim& claim : config_.sizes) {
      const std::pair<std::size_t, std::string> told = found(claim);
      if (told.first != 0 && claim.value != told.first) fail_claim(claim, told);
    }
  }
  /// What the configs say of a size that tensors do not tell, or null.
  const SizeClaim* agreed_claim(ModelSize size) const;
  /// `usual`: where neither options nor configs tell.
  Preprocessing choose_preprocessing(ImageSize image_size, const PartialPreprocessing& usual);

  std::string file_name() const;
  /// The model's name from its config, and the file's in lower case: what the makers call it.
  std::vector<std::string> model_names() const;
  /// "'file' (container, names of scheme)", for provenance.
  std::string source() const;

  const Checkpoint& checkpoint_;
  const FloatImportOptions& options_;
  const CheckpointConfig config_;
  ImportedModel result_;

 private:
  [[noreturn]] void fail_claim(const SizeClaim& claim,
                               const std::pair<std::size_t, std::string>& found) const;
};

/// import_float() of each family.
ImportedModel import_vit(const Checkpoint& checkpoint, const FloatImportOptions& options);
ImportedModel import_swin(const Checkpoint& checkpoint, const FloatImportOptions& options);

}  // namespace intaglio
