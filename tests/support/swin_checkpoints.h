// Float checkpoints of a Swin as the makers of models write them.
#pragma once

#include "converters/swin.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {

enum class SwinScheme {
  kTimm,         ///< before 0.9: a merge belongs to the stage before it
  kNewTimm,      ///< a merge belongs to the stage behind it; head.fc
  kMicrosoft,    ///< timm's old names, with the buffers of the modules
  kHuggingFace,  ///< Transformers
  kDetector,     ///< a backbone with norms of the stages' outputs, beside other parts; no
                 ///< classifier
  kMmdetection   ///< the same with mmdetection's names and order of merged channels
};

/// What import_float() reads back as `swin`, as square images of 224 pixels.
Checkpoint export_swin(const Swin& swin, SwinScheme scheme);

}  // namespace intaglio::test
