#include "converters/swin_names.h"

#include <algorithm>

namespace intaglio {
namespace {

constexpr RelativeName kRelatives[] = {
    {"absolute_pos_embed", "absolute positions"},
    {"position_embeddings", "absolute positions"},
    {"logit_scale", "cosine attention, as of Swin V2,"},
    {"cpb_mlp", "computed position bias, as of Swin V2,"},
    {"continuous_position_bias_mlp", "computed position bias, as of Swin V2,"},
};

constexpr const char* kTimmRoots[] = {"", "backbone."};
constexpr const char* kHuggingFaceRoots[] = {"swin.", ""};

SwinNames timm_names(const Checkpoint& checkpoint, const std::string& root) {
  SwinNames n;
  n.scheme = "timm";
  n.root = root;
  n.patch_embed = root + "patch_embed.proj";
  n.patch_norm = root + "patch_embed.norm";
  n.norm = root + "norm";
  n.head = root + (has_any(checkpoint, root + "head.fc.") ? "head.fc" : "head");
  n.stages = root + "layers.";
  n.in_block = {"norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2", {"attn.qkv"}, {}, {}};
  n.table = "attn.relative_position_bias_table";
  // Since timm 0.9; nothing is merged before the first stage.
  n.merge_behind = !has_any(checkpoint, n.stage(0) + "downsample.");
  return n;
}

SwinNames mmdetection_names(const Checkpoint& checkpoint, const std::string& root) {
  SwinNames n = timm_names(checkpoint, root);
  n.scheme = "mmdetection";
  n.patch_embed = root + "patch_embed.projection";
  n.stages = root + "stages.";
  n.in_block = {"norm1",        "attn.w_msa.proj",  "norm2", "ffn.layers.0.0",
                "ffn.layers.1", {"attn.w_msa.qkv"}, {},      {}};
  n.table = "attn.w_msa.relative_position_bias_table";
  n.merge_behind = false;
  n.merge_by_channel = true;
  return n;
}

SwinNames hugging_face_names(const std::string& root) {
  SwinNames n;
  n.scheme = "Hugging Face Swin";
  n.patch_embed = root + "embeddings.patch_embeddings.projection";
  n.patch_norm = root + "embeddings.norm";
  n.norm = root + "layernorm";
  n.head = "classifier";
  n.stages = root + "encoder.layers.";
  const std::string attention = "attention.self.";
  n.in_block = hugging_face_block(attention);
  n.table = attention + "relative_position_bias_table";
  n.ignored_endings = {root + "embeddings.mask_token"};
  return n;
}

/// Names of the one scheme whose blocks are there.
SwinNames names_of_scheme(const Checkpoint& checkpoint) {
  for (const char* root : kTimmRoots) {
    for (const auto& names_of : {timm_names, mmdetection_names}) {
      SwinNames names = names_of(checkpoint, root);
      if (has_any(checkpoint, names.block(0, 0))) return names;
    }
  }
  for (const char* root : kHuggingFaceRoots) {
    SwinNames names = hugging_face_names(root);
    if (has_any(checkpoint, names.block(0, 0))) return names;
  }
  return {};
}

}  // namespace

bool SwinNames::ignores(const std::string& tensor) const {
  return !tensor.starts_with(root) ||
         std::any_of(ignored_endings.begin(), ignored_endings.end(),
                     [&](const std::string& ending) { return tensor.ends_with(ending); });
}

bool has_swin_names(const Checkpoint& checkpoint) {
  return !names_of_scheme(checkpoint).scheme.empty();
}

SwinNames recognize_swin_names(const Checkpoint& checkpoint) {
  SwinNames names = names_of_scheme(checkpoint);
  if (names.scheme.empty()) fail_unrecognized(checkpoint);
  names.ignored_endings.insert(names.ignored_endings.end(),
                               {".relative_position_index", ".attn_mask"});
  refuse_relatives(checkpoint, kRelatives,
                   [&](const std::string& tensor) { return names.ignores(tensor); });
  if (!has_any(checkpoint, names.patch_norm + ".")) names.patch_norm.clear();
  const std::string stage_norm = names.root + "norm";
  for (std::size_t i = 0; has_any(checkpoint, names.stage(i)); ++i) {
    const std::string module = stage_norm + std::to_string(i);
    const bool there = has_any(checkpoint, module + ".");
    names.stage_norm.push_back(there ? module : "");
  }
  if (!has_any(checkpoint, names.head + ".")) names.head.clear();
  if (names.head.empty() && !names.stage_norm.back().empty() &&
      !has_any(checkpoint, names.norm + ".")) {
    names.norm.clear();
  }
  const auto& qkv = names.in_block.qkv;
  names.qkv_bias = std::any_of(qkv.begin(), qkv.end(), [&](const std::string& module) {
    return has_any(checkpoint, names.stages, "." + module + ".bias");
  });
  return names;
}

}  // namespace intaglio
