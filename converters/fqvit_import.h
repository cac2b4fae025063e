// Reads calibrated FQ-ViT checkpoints of the ViT / DeiT family (docs/file_format.md, "Calibrated
// checkpoints").
#pragma once

#include "converters/calibration.h"
#include "converters/vit.h"
#include "graph/safetensors.h"

namespace intaglio {

/// A float network with the grids that its checkpoint came with.
struct CalibratedVit {
  Vit vit;
  Calibration calibration;
};

/// Depth, width, classes, patch and image size come from shapes; heads, normalization and the rest
/// from the metadata. Throws Error that names the tensor or metadata key that is missing, misshapen
/// or impossible.
CalibratedVit import_fqvit(const Safetensors& checkpoint);

}  // namespace intaglio
