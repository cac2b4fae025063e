// Reads calibrated FQ-ViT checkpoints: ViT, DeiT and Swin (docs/file_format.md, "Calibrated
// checkpoints").
#pragma once

#include "converters/calibration.h"
#include "converters/network.h"
#include "graph/safetensors.h"

namespace intaglio {

/// A float network with the grids that its checkpoint came with.
struct CalibratedNetwork {
  Network network;
  Calibration calibration;
};

/// What shapes tell comes from shapes, the rest (heads of a ViT, image size of a Swin,
/// normalization) from the metadata. Throws Error that names the tensor or metadata key that is
/// missing, misshapen or impossible.
CalibratedNetwork import_fqvit(const Safetensors& checkpoint);

}  // namespace intaglio
