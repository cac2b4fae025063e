#include "converters/tensor_names.h"

#include <algorithm>

#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {
namespace {

const char* const kKnownSchemes =
    "blocks.0... or layers.0.blocks.0... (timm), vit.encoder.layer.0..., deit.encoder.layer.0... "
    "or swin.encoder.layers.0.blocks.0... (Hugging Face), Transformer/encoderblock_0... (JAX)";

}  // namespace

BlockNames hugging_face_block(const std::string& attention) {
  return {"layernorm_before",
          "attention.output.dense",
          "layernorm_after",
          "intermediate.dense",
          "output.dense",
          {attention + "query", attention + "key", attention + "value"},
          {},
          {}};
}

bool has_any(const Checkpoint& checkpoint, const std::string& prefix, const std::string& ending) {
  const auto& shapes = checkpoint.shapes();
  for (auto it = shapes.lower_bound(prefix); it != shapes.end(); ++it) {
    if (!it->first.starts_with(prefix)) return false;
    if (it->first.ends_with(ending)) return true;
  }
  return false;
}

void refuse_relatives(const Checkpoint& checkpoint, std::span<const RelativeName> relatives,
                      const std::function<bool(const std::string&)>& ignored) {
  for (const auto& [name, shape] : checkpoint.shapes()) {
    if (ignored(name)) continue;
    for (const RelativeName& relative : relatives) {
      if (name.find(relative.piece) == std::string::npos) continue;
      throw Error(ErrorCode::kUnsupported, checkpoint.name() + ": tensor " + printable(name) +
                                               ": " + relative.what + " cannot be imported");
    }
  }
}

void fail_unrecognized(const Checkpoint& checkpoint) {
  constexpr std::size_t kShown = 4;
  std::string found;
  std::size_t shown = 0;
  for (const auto& [name, shape] : checkpoint.shapes()) {
    if (shown == kShown) break;
    found += (shown++ == 0 ? "" : ", ") + printable(name);
  }
  if (checkpoint.shapes().size() > kShown) {
    found += " and " + std::to_string(checkpoint.shapes().size() - kShown) + " others";
  }
  throw Error(ErrorCode::kUnsupported,
              checkpoint.name() + ": expected a ViT, DeiT or Swin with tensors " + kKnownSchemes +
                  ", found " + (found.empty() ? "no tensor" : found));
}

}  // namespace intaglio
