#include "tests/support/swin_checkpoints.h"

#include "tests/support/torch_exporter.h"

namespace intaglio::test {
namespace {

class Exporter : public TorchExporter {
 public:
  Exporter(const Swin& swin, SwinScheme scheme) : swin_(swin), scheme_(scheme) {}

  void run() {
    const bool hugging_face = scheme_ == SwinScheme::kHuggingFace;
    const bool mmdetection = scheme_ == SwinScheme::kMmdetection;
    const bool detector = scheme_ == SwinScheme::kDetector || mmdetection;
    const std::string root = hugging_face ? "swin." : detector ? "backbone." : "";
    const std::string embeddings = root + (hugging_face ? "embeddings." : "patch_embed.");
    const std::string proj = hugging_face  ? "patch_embeddings.projection"
                             : mmdetection ? "projection"
                                           : "proj";
    patch_embed(embeddings + proj, swin_.patch_embed, swin_.patch);
    if (swin_.patch_norm) norm(embeddings + "norm", *swin_.patch_norm);
    const std::string stages = root + (hugging_face  ? "encoder.layers."
                                       : mmdetection ? "stages."
                                                     : "layers.");
    for (std::size_t i = 0; i < swin_.stages.size(); ++i) {
      stage(stages, i);
      const SwinStage& s = swin_.stages[i];
      if (s.feature_norm) norm(root + "norm" + std::to_string(i), *s.feature_norm);
    }
    if (detector) {
      add("neck.lateral_convs.0.conv.weight", {1, 1, 1, 1}, {1});
      return;
    }
    norm(root + (hugging_face ? "layernorm" : "norm"), swin_.norm);
    linear(hugging_face                      ? "classifier"
           : scheme_ == SwinScheme::kNewTimm ? "head.fc"
                                             : "head",
           swin_.head);
  }

 private:
  void stage(const std::string& stages, std::size_t index) {
    const SwinStage& s = swin_.stages[index];
    const std::string name = stages + std::to_string(index) + ".";
    for (std::size_t i = 0; i < s.blocks.size(); ++i) {
      const std::string in = name + "blocks." + std::to_string(i) + ".";
      scheme_ == SwinScheme::kHuggingFace   ? hugging_face_block(in, s, s.blocks[i])
      : scheme_ == SwinScheme::kMmdetection ? mmdetection_block(in, s, s.blocks[i])
                                            : block(in, s, s.blocks[i]);
      if (scheme_ == SwinScheme::kMicrosoft) {
        checkpoint.tensors[in + "attn.relative_position_index"] =
            Checkpoint::Tensor::of<std::int64_t>({1, 2}, {0, 1});
        if (i % 2 == 1) add(in + "attn_mask", {1, 1, 1}, {-100});
      }
    }
    if (!s.merge) return;
    const std::size_t owner = scheme_ == SwinScheme::kNewTimm ? index + 1 : index;
    const std::string merge = stages + std::to_string(owner) + ".downsample.";
    const SwinMerge owned = scheme_ == SwinScheme::kMmdetection ? unfolded(*s.merge) : *s.merge;
    norm(merge + "norm", owned.norm), linear(merge + "reduction", owned.reduction);
  }
  void block(const std::string& in, const SwinStage& s, const SwinBlock& b) {
    norm(in + "norm1", b.norm1), norm(in + "norm2", b.norm2);
    linear(in + "attn.qkv", b.qkv), linear(in + "attn.proj", b.proj);
    linear(in + "mlp.fc1", b.fc1), linear(in + "mlp.fc2", b.fc2);
    table(in + "attn.relative_position_bias_table", s, b);
  }
  void hugging_face_block(const std::string& in, const SwinStage& s, const SwinBlock& b) {
    norm(in + "layernorm_before", b.norm1), norm(in + "layernorm_after", b.norm2);
    query_key_value(in + "attention.self.", b.qkv);
    linear(in + "attention.output.dense", b.proj);
    linear(in + "intermediate.dense", b.fc1), linear(in + "output.dense", b.fc2);
    table(in + "attention.self.relative_position_bias_table", s, b);
  }
  void mmdetection_block(const std::string& in, const SwinStage& s, const SwinBlock& b) {
    norm(in + "norm1", b.norm1), norm(in + "norm2", b.norm2);
    const std::string attention = in + "attn.w_msa.";
    linear(attention + "qkv", b.qkv), linear(attention + "proj", b.proj);
    linear(in + "ffn.layers.0.0", b.fc1), linear(in + "ffn.layers.1", b.fc2);
    table(attention + "relative_position_bias_table", s, b);
  }
  /// Channel by channel the square's values, row by row; ours are piece by piece.
  static SwinMerge unfolded(const SwinMerge& ours) {
    SwinMerge theirs = ours;
    const std::size_t k = ours.reduction.k;
    for (std::size_t c = 0; c < k / 4; ++c) {
      for (std::size_t y = 0; y < 2; ++y) {
        for (std::size_t x = 0; x < 2; ++x) {
          const std::size_t from = (2 * x + y) * (k / 4) + c;
          const std::size_t to = 4 * c + 2 * y + x;
          theirs.norm.gamma[to] = ours.norm.gamma[from];
          theirs.norm.beta[to] = ours.norm.beta[from];
          for (std::size_t j = 0; j < ours.reduction.n; ++j) {
            theirs.reduction.weight[j * k + to] = ours.reduction.weight[j * k + from];
          }
        }
      }
    }
    return theirs;
  }
  void table(const std::string& name, const SwinStage& s, const SwinBlock& b) {
    const std::size_t offsets = b.bias.size() / s.heads;
    std::vector<float> values;
    for (std::size_t o = 0; o < offsets; ++o) {
      for (std::size_t h = 0; h < s.heads; ++h) values.push_back(b.bias[h * offsets + o]);
    }
    add(name, {offsets, s.heads}, values);
  }

  const Swin& swin_;
  SwinScheme scheme_;
};

}  // namespace

Checkpoint export_swin(const Swin& swin, SwinScheme scheme) {
  Exporter exporter(swin, scheme);
  exporter.run();
  return std::move(exporter.checkpoint);
}

}  // namespace intaglio::test
