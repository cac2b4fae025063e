#include "converters/fqvit_import.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "converters/fqvit_reader.h"
#include "converters/swin.h"
#include "converters/vit.h"
#include "graph/check.h"
#include "graph/error.h"

namespace intaglio {
namespace {

constexpr std::size_t kDefaultHeadDim = 64;     // of every published ViT and DeiT
constexpr std::size_t kDefaultImageSize = 224;  // of published Swins that tell no other
constexpr std::size_t kMaxWindow = 64;          // tokens of a side, as in graph/check_attention.cpp

/// Sizes and layers that all kinds of networks have.
class Importer {
 public:
  explicit Importer(const Safetensors& checkpoint) : reader_(checkpoint) {}

 protected:
  using Shape = FqvitReader::Shape;

  /// Channels, patch and classes.
  template <typename NetworkT>
  void read_sizes(NetworkT& network) {
    const Shape& proj = reader_.tensor("patch_embed.proj.weight").shape;
    if (proj.size() != 4 || proj[0] == 0 || proj[1] != 3 || proj[2] != proj[3] || proj[2] == 0) {
      reader_.fail_shape("patch_embed.proj.weight", "[dim, 3, patch, patch]");
    }
    network.dim = proj[0];
    network.patch = proj[2];
    const Shape& head = reader_.tensor("head.weight").shape;
    if (head.size() != 2 || head[0] == 0) reader_.fail_shape("head.weight", "[classes, dim]");
    network.classes = head[0];
    reader_.require_config("patch_size", network.patch);
    reader_.require_config("embed_dim", network.dim);
    reader_.require_config("num_classes", network.classes);
  }

  FloatLinear patch_embed(std::size_t dim, std::size_t patch) {
    if (reader_.flag("input_quant", reader_.has_any("qact_input."))) reader_.uniform("qact_input");
    FloatLinear proj = reader_.linear("patch_embed.proj", {dim, 3, patch, patch});
    proj.weight = patch_weight(proj.weight, dim, patch);
    reader_.uniform("patch_embed.qact");
    return proj;
  }

  /// `attention_grids`: quantizers inside of it, behind it and behind its projection.
  template <typename BlockT>
  void block(const std::string& name, std::size_t dim,
             std::initializer_list<const char*> attention_grids, BlockT& b) {
    const Shape& fc1 = reader_.tensor(name + "mlp.fc1.weight").shape;
    const std::size_t hidden = fc1.empty() ? 0 : fc1[0];
    b.norm1 = reader_.norm(name + "norm1", dim);
    reader_.uniform(name + "qact1");
    b.qkv = reader_.linear(name + "attn.qkv", {3 * dim, dim}, reader_.flag("qkv_bias", true));
    for (const char* grid : attention_grids) reader_.uniform(name + "attn." + grid);
    if (reader_.calibration.softmax == SoftmaxForm::kUniform) {
      reader_.uniform(name + "attn.log_int_softmax");
    }
    b.proj = reader_.linear(name + "attn.proj", {dim, dim});
    reader_.ptf(name + "qact2", dim);
    b.norm2 = reader_.norm(name + "norm2", dim);
    reader_.uniform(name + "qact3");
    b.fc1 = reader_.linear(name + "mlp.fc1", {hidden, dim});
    reader_.uniform(name + "mlp.qact1");
    b.fc2 = reader_.linear(name + "mlp.fc2", {dim, hidden});
    reader_.uniform(name + "mlp.qact2");
    reader_.ptf(name + "qact4", dim);
  }

  template <typename NetworkT>
  CalibratedNetwork finish(NetworkT& network, std::size_t image_size, const char* kind) {
    // Logits are ranked before act_out's u8 grid would make ties; it is read and dropped.
    if (reader_.has_any("act_out.")) reader_.uniform("act_out");
    reader_.calibration.grids.erase("act_out");
    network.preprocessing = reader_.preprocessing(image_size);
    network.provenance = reader_.provenance();
    reader_.require_all_read(kind);
    return {network_of(std::move(network)), std::move(reader_.calibration)};
  }

  FqvitReader reader_;
};

class VitImporter : private Importer {
 public:
  using Importer::Importer;

  CalibratedNetwork run() {
    if (reader_.has_any("dist_token") || reader_.has_any("head_dist.")) {
      reader_.unsupported("distilled models (with a 'dist_token') are not supported");
    }
    read_sizes(vit_);
    const std::size_t dim = vit_.dim;
    read_image_size();
    vit_.heads = reader_.positive("num_heads", dim / kDefaultHeadDim);
    if (vit_.heads == 0 || dim % vit_.heads != 0) {
      reader_.fail(std::to_string(vit_.heads) + " heads do not divide " + std::to_string(dim) +
                   " channels; set 'num_heads' in the metadata's config");
    }
    vit_.patch_embed = patch_embed(dim, vit_.patch);
    vit_.tokens = reader_.floats("cls_token", {1, 1, dim});
    reader_.uniform(kTokenGrid);
    vit_.position = reader_.floats("pos_embed", {1, 1 + vit_.patches(), dim});
    reader_.uniform(kPositionGrid);
    reader_.ptf("qact1", dim);
    do {
      const std::string name = "blocks." + std::to_string(vit_.blocks.size()) + ".";
      block(name, dim, {"qact1", "qact_attn1", "qact2", "qact3"}, vit_.blocks.emplace_back());
    } while (reader_.has_any("blocks." + std::to_string(vit_.blocks.size()) + "."));
    reader_.require_config("depth", vit_.blocks.size());
    vit_.norm = reader_.norm("norm", dim);
    reader_.uniform("qact2");
    vit_.head = reader_.linear("head", {vit_.classes, dim});
    return finish(vit_, vit_.image_size, "ViT or DeiT");
  }

 private:
  /// From the positions.
  void read_image_size() {
    const Shape& position = reader_.tensor("pos_embed").shape;
    if (position.size() != 3 || position[0] != 1 || position[1] < 2 || position[2] != vit_.dim) {
      reader_.fail_shape("pos_embed", "F32 [1, 1 + patches, " + std::to_string(vit_.dim) + "]");
    }
    const auto side = static_cast<std::size_t>(std::llround(std::sqrt(double(position[1] - 1))));
    if (side * side != position[1] - 1) {
      reader_.fail("tensor 'pos_embed': " + std::to_string(position[1] - 1) +
                   " patches are no square grid behind one class token");
    }
    if (side > kMaxImageSide / vit_.patch) {
      reader_.fail("images above 4096 pixels are not supported");
    }
    vit_.image_size = side * vit_.patch;
    reader_.require_config("img_size", vit_.image_size);
    const nlohmann::json size = reader_.metadata_json("img_size");
    if (!size.is_null() && size != vit_.image_size) {
      reader_.fail("metadata 'img_size' is " + size.dump() +
                   ", but 'pos_embed' has the patches of " + std::to_string(vit_.image_size) +
                   " pixels");
    }
  }

  Vit vit_;
};

class SwinImporter : private Importer {
 public:
  using Importer::Importer;

  CalibratedNetwork run() {
    read_sizes(swin_);
    read_image_size();
    std::size_t dim = swin_.dim;
    std::size_t side = swin_.image_width / swin_.patch;
    swin_.patch_embed = patch_embed(dim, swin_.patch);
    if (reader_.has_any("patch_embed.norm.")) {
      reader_.uniform("patch_embed.qact_before_norm");
      swin_.patch_norm = reader_.norm("patch_embed.norm", dim);
    }
    stage(0, dim, side);
    for (std::size_t i = 1; reader_.has_any(name_of(i)); ++i) {
      merge(name_of(i - 1) + "downsample", dim, side);
      dim *= 2;
      side /= 2;
      stage(i, dim, side);
    }
    require_stages();
    swin_.norm = reader_.norm("norm", dim);
    reader_.uniform("qact2");
    reader_.uniform("qact3");
    swin_.head = reader_.linear("head", {swin_.classes, dim});
    return finish(swin_, swin_.image_width, "Swin");
  }

 private:
  /// No tensor tells it. The reference knows no padding.
  void read_image_size() {
    const nlohmann::json metadata = reader_.metadata_json("img_size");
    const std::size_t size =
        reader_.positive("img_size", metadata.is_number_unsigned() ? metadata.get<std::size_t>()
                                                                   : kDefaultImageSize);
    if (!metadata.is_null() && metadata != size) {
      reader_.fail("metadata 'img_size' is " + metadata.dump() + ", expected " +
                   std::to_string(size));
    }
    if (size > kMaxImageSide) reader_.fail("images above 4096 pixels are not supported");
    if (size == 0 || size % swin_.patch != 0) {
      reader_.fail("metadata 'img_size' is " + std::to_string(size) +
                   ", no multiple of patches of " + std::to_string(swin_.patch) + " pixels");
    }
    swin_.image_height = swin_.image_width = size;
  }

  static std::string name_of(std::size_t stage) { return "layers." + std::to_string(stage) + "."; }

  void stage(std::size_t index, std::size_t dim, std::size_t side) {
    SwinStage& s = swin_.stages.emplace_back();
    const std::string blocks = name_of(index) + "blocks.";
    do {
      const std::string name = blocks + std::to_string(s.blocks.size()) + ".";
      const std::string table = name + "attn.relative_position_bias_table";
      if (s.blocks.empty()) read_window(table, dim, side, s);
      SwinBlock& b = s.blocks.emplace_back();
      b.bias = bias(table, s);
      block(name, dim, {"qact1", "qact_attn1", "qact_table", "qact2", "qact3", "qact4"}, b);
    } while (reader_.has_any(blocks + std::to_string(s.blocks.size()) + "."));
  }

  void merge(const std::string& name, std::size_t dim, std::size_t side) {
    if (side % 2 != 0) {
      reader_.fail("layer '" + name + "': a map of " + map_text(side) +
                   " tokens cannot be merged; is 'img_size' right?");
    }
    SwinMerge& m = swin_.stages.back().merge.emplace();
    m.norm = reader_.norm(name + ".norm", 4 * dim);
    reader_.uniform(name + ".qact1");
    m.reduction = reader_.linear(name + ".reduction", {2 * dim, 4 * dim}, false);
    reader_.ptf(name + ".qact2", 2 * dim);
  }

  static std::string map_text(std::size_t side) {
    return std::to_string(side) + "x" + std::to_string(side);
  }

  /// A table has a row for each distance of two tokens in a window, a column for each head.
  void read_window(const std::string& table, std::size_t dim, std::size_t side, SwinStage& s) {
    const Shape& shape = reader_.tensor(table).shape;
    const std::size_t distances = shape.size() == 2 ? shape[0] : 0;
    while (s.window < kMaxWindow && (2 * s.window + 1) * (2 * s.window + 1) <= distances)
      ++s.window;
    if (s.window == 0 || (2 * s.window - 1) * (2 * s.window - 1) != distances) {
      reader_.fail_shape(table, "F32 [(2 * window - 1)^2, heads], windows up to 64");
    }
    s.heads = shape[1];
    if (s.heads == 0 || dim % s.heads != 0) {
      reader_.fail("tensor '" + table + "': " + std::to_string(s.heads) + " heads do not divide " +
                   std::to_string(dim) + " channels");
    }
    if (side == 0 || side % s.window != 0) {
      reader_.fail("tensor '" + table + "': windows of " + std::to_string(s.window) +
                   " do not divide a map of " + map_text(side) + " tokens; is 'img_size' right?");
    }
    // The reference makes windows smaller where the map is.
    const std::size_t claimed = reader_.positive("window_size", s.window);
    if (s.window != std::min(claimed, side)) {
      reader_.fail("metadata config: 'window_size' is " + std::to_string(claimed) +
                   ", but tensor '" + table + "' has windows of " + std::to_string(s.window));
    }
  }

  /// [distances, heads] -> [heads, distances].
  std::vector<float> bias(const std::string& table, const SwinStage& s) {
    const std::size_t distances = (2 * s.window - 1) * (2 * s.window - 1);
    const std::vector<float> stored = reader_.floats(table, {distances, s.heads});
    std::vector<float> bias(stored.size());
    for (std::size_t i = 0; i < stored.size(); ++i) {
      bias[i % s.heads * distances + i / s.heads] = stored[i];
    }
    return bias;
  }

  void require_stages() const {
    std::vector<std::size_t> depths, heads;
    for (const SwinStage& s : swin_.stages) {
      depths.push_back(s.blocks.size());
      heads.push_back(s.heads);
    }
    reader_.require_config("depths", depths);
    reader_.require_config("num_heads", heads);
  }

  Swin swin_;
};

}  // namespace

CalibratedNetwork import_fqvit(const Safetensors& checkpoint) {
  const auto arch = checkpoint.metadata().find("arch");
  const bool swin = arch != checkpoint.metadata().end() && arch->second.starts_with("swin");
  const auto layers = checkpoint.tensors().lower_bound("layers.");
  const bool stages = layers != checkpoint.tensors().end() && layers->first.starts_with("layers.");
  if (swin || stages) return SwinImporter(checkpoint).run();
  return VitImporter(checkpoint).run();
}

}  // namespace intaglio
