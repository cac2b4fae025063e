// Float checkpoints as the makers of models write them.
#pragma once

#include <string>

#include "converters/checkpoint.h"
#include "converters/vit.h"
#include "tests/support/folder.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {

/// The checkpoints that import_float() reads back as `vit`; of a distilled one, both heads have the
/// same bias. Without metadata: heads of timm's and Hugging Face's must be told.
Checkpoint export_timm(const Vit& vit);
/// With names of ViT, or of DeiT where there are two tokens.
Checkpoint export_hugging_face(const Vit& vit);
/// One token only; `root`: before every name.
Checkpoint export_jax(const Vit& vit, const std::string& root = "");

/// A second token, and a head that classifies both.
Vit distilled(Vit vit);

/// Writes it into a folder as a safetensors file, and opens that.
intaglio::Checkpoint opened(const Folder& folder, const Checkpoint& checkpoint,
                            const std::string& name = "model.safetensors");

}  // namespace intaglio::test
