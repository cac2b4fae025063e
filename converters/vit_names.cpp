#include "converters/vit_names.h"

#include <algorithm>

namespace intaglio {
namespace {

constexpr RelativeName kRelatives[] = {
    {"pre_logits", "a representation layer before the head"},
    {"fc_norm", "a head on pooled tokens instead of the class token"},
    {"attn_pool", "a head on pooled tokens instead of the class token"},
    {"reg_token", "register tokens"},
    {"register_tokens", "register tokens"},
    {"q_norm", "normalized queries and keys"},
    {"k_norm", "normalized queries and keys"},
    {"norm_pre", "a norm before the blocks"},
    {"rel_pos", "relative positions"},
    {"relative_position", "relative positions"},
};

VitNames torch_names() {
  VitNames n;
  n.weight = n.scale = ".weight";
  n.bias = ".bias";
  return n;
}

VitNames timm_names(const Checkpoint& checkpoint) {
  VitNames n = torch_names();
  n.scheme = "timm";
  n.cls_token = "cls_token";
  n.position = "pos_embed";
  n.patch_embed = "patch_embed.proj";
  n.norm = "norm";
  n.head = "head";
  n.blocks = "blocks.";
  n.in_block = {"norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2", {"attn.qkv"}, {}, {}};
  n.position_without_prefix = true;
  if (checkpoint.has("dist_token") || has_any(checkpoint, "head_dist.")) {
    n.dist_token = "dist_token";
    n.head_dist = "head_dist";
    n.deit = true;
  }
  // timm's names of the layer scale, and those of DeiT III's authors.
  for (const auto& [attention, mlp] :
       {std::pair{"ls1.gamma", "ls2.gamma"}, std::pair{"gamma_1", "gamma_2"}}) {
    if (has_any(checkpoint, n.blocks, std::string(".") + attention) ||
        has_any(checkpoint, n.blocks, std::string(".") + mlp)) {
      n.in_block.scale_attention = attention;
      n.in_block.scale_mlp = mlp;
    }
  }
  return n;
}

/// `model`: "vit." or "deit.".
VitNames hugging_face_names(const Checkpoint& checkpoint, const std::string& model) {
  VitNames n = torch_names();
  n.deit = model == "deit.";
  n.scheme = n.deit ? "Hugging Face DeiT" : "Hugging Face ViT";
  n.cls_token = model + "embeddings.cls_token";
  n.position = model + "embeddings.position_embeddings";
  n.patch_embed = model + "embeddings.patch_embeddings.projection";
  n.norm = model + "layernorm";
  n.head = "classifier";
  n.blocks = model + "encoder.layer.";
  n.in_block = hugging_face_block("attention.attention.");
  n.epsilon = 1e-12F;
  n.ignored = {model + "pooler.", model + "embeddings.mask_token",
               model + "embeddings.position_ids"};
  if (n.deit) {
    n.dist_token = model + "embeddings.distillation_token";
    if (has_any(checkpoint, "cls_classifier.") || has_any(checkpoint, "distillation_classifier.")) {
      n.head = "cls_classifier";
      n.head_dist = "distillation_classifier";
    }
  }
  return n;
}

/// `root`: "", or where a training state keeps the parameters.
VitNames jax_names(const std::string& root) {
  VitNames n;
  n.scheme = "JAX";
  n.transposed = true;
  n.weight = "/kernel";
  n.scale = "/scale";
  n.bias = "/bias";
  n.cls_token = root + "cls";
  n.position = root + "Transformer/posembed_input/pos_embedding";
  n.patch_embed = root + "embedding";
  n.norm = root + "Transformer/encoder_norm";
  n.head = root + "head";
  n.blocks = root + "Transformer/encoderblock_";
  n.separator = '/';
  const std::string attention = "MultiHeadDotProductAttention_1/";
  n.in_block = {"LayerNorm_0",
                attention + "out",
                "LayerNorm_2",
                "MlpBlock_3/Dense_0",
                "MlpBlock_3/Dense_1",
                {attention + "query", attention + "key", attention + "value"},
                {},
                {}};
  if (!root.empty()) n.ignored = {"opt/state/"};
  return n;
}

VitNames names_of_scheme(const Checkpoint& checkpoint) {
  if (has_any(checkpoint, "blocks.")) return timm_names(checkpoint);
  for (const char* model : {"vit.", "deit."}) {
    if (has_any(checkpoint, std::string(model) + "encoder.layer.")) {
      return hugging_face_names(checkpoint, model);
    }
  }
  for (const char* root : {"", "opt/target/"}) {
    if (has_any(checkpoint, std::string(root) + "Transformer/encoderblock_")) {
      return jax_names(root);
    }
  }
  fail_unrecognized(checkpoint);
}

}  // namespace

bool VitNames::ignores(const std::string& tensor) const {
  return std::any_of(ignored.begin(), ignored.end(),
                     [&](const std::string& start) { return tensor.starts_with(start); });
}

VitNames recognize_vit_names(const Checkpoint& checkpoint) {
  VitNames names = names_of_scheme(checkpoint);
  refuse_relatives(checkpoint, kRelatives,
                   [&](const std::string& tensor) { return names.ignores(tensor); });
  const auto& qkv = names.in_block.qkv;
  names.qkv_bias = std::any_of(qkv.begin(), qkv.end(), [&](const std::string& module) {
    return has_any(checkpoint, names.blocks, names.separator + module + names.bias);
  });
  return names;
}

}  // namespace intaglio
