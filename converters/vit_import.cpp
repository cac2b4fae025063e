#include <algorithm>
#include <cmath>
#include <utility>

#include "converters/float_importer.h"
#include "converters/resample_position.h"
#include "converters/vit_loader.h"
#include "converters/vit_names.h"
#include "graph/check.h"
#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {
namespace {

/// Of the models that are published: the largest have no heads of 64 channels.
std::size_t usual_heads(std::size_t dim) {
  if (dim == 1280 || dim == 1408 || dim == 1664) return 16;
  return dim % 64 == 0 ? dim / 64 : 0;
}

class Importer : FloatImporter {
 public:
  Importer(const Checkpoint& checkpoint, const FloatImportOptions& options)
      : FloatImporter(checkpoint, options, ModelFamily::kVit),
        names_(recognize_vit_names(checkpoint)) {}

  ImportedModel run() {
    result_.scheme = names_.scheme;
    read_sizes();
    check_claims([this](const SizeClaim& claim) { return found(claim.size); });
    choose_heads();
    vit_.patch = sizes_.patch, vit_.dim = sizes_.dim, vit_.heads = sizes_.heads;
    vit_.classes = sizes_.classes;
    vit_.token_feature = options_.token_feature;
    vit_.image_size = choose_image_size();
    vit_.preprocessing = choose_preprocessing({vit_.image_size, vit_.image_size},
                                              usual_preprocessing(vit_.image_size));
    if (result_.preprocessing_source.find(", assumed (") != std::string::npos) {
      result_.notes.push_back(
          "nothing tells how images were prepared; assumed preset deit, give another if need be");
    }
    const auto epsilon = static_cast<float>(config_.norm_epsilon.value_or(names_.epsilon));
    load_vit(checkpoint_, names_, sizes_, epsilon, vit_);
    const std::size_t grid = vit_.image_size / vit_.patch;
    vit_.position = resample_position(vit_.position, sizes_.prefix, sizes_.grid, grid, vit_.dim);
    check_finite();
    tell();
    result_.model = std::move(vit_);
    return std::move(result_);
  }

 private:
  void read_patch() {
    patch_tensor_ = names_.patch_embed + names_.weight;
    const Shape& s = shape(patch_tensor_);
    const bool t = names_.transposed;
    // Of four axes: where channels out, channels in, y and x are.
    const std::size_t out = t ? 3 : 0;
    const std::size_t in = t ? 2 : 1;
    const std::size_t y = t ? 0 : 2;
    if (s.size() != 4 || s[out] == 0 || s[in] != 3 || s[y] == 0 || s[y] != s[y + 1]) {
      fail_shape(patch_tensor_, t ? "[patch, patch, 3, dim]" : "[dim, 3, patch, patch]");
    }
    sizes_.dim = s[out];
    sizes_.patch = s[y];
  }
  void read_grid() {
    const Shape& s = shape(names_.position);
    const std::string dim = std::to_string(sizes_.dim);
    sizes_.prefix = names_.dist_token.empty() ? 1 : 2;
    if (s.size() != 3 || s[0] != 1 || s[2] != sizes_.dim) {
      fail_shape(names_.position, "[1, tokens, " + dim + "]");
    }
    sizes_.position_rows = s[1];
    for (const std::size_t prefix : {sizes_.prefix, std::size_t{0}}) {
      if (s[1] <= prefix || (prefix == 0 && !names_.position_without_prefix)) continue;
      const auto side = static_cast<std::size_t>(std::sqrt(static_cast<double>(s[1] - prefix)));
      if (side * side == s[1] - prefix) sizes_.grid = side;
      if (sizes_.grid != 0) break;
    }
    if (sizes_.grid == 0) {
      fail_shape(names_.position, "[1, " + std::to_string(sizes_.prefix) +
                                      " + a square number of patches, " + dim + "]");
    }
    if (sizes_.grid > kMaxImageSide / sizes_.patch) {
      fail(ErrorCode::kLimit, "tensor '" + names_.position + "': expected images of at most " +
                                  std::to_string(kMaxImageSide) + " pixels, found " +
                                  std::to_string(sizes_.grid) + " patches of " +
                                  std::to_string(sizes_.patch) + " to a side");
    }
  }
  /// The size that a layer's weight has besides `dim`.
  std::size_t outputs_of(const std::string& module, const char* expected) const {
    const std::string tensor = module + names_.weight;
    const Shape& s = shape(tensor);
    const std::size_t axis = names_.transposed ? 1 : 0;
    if (s.size() != 2 || s[axis] == 0) fail_shape(tensor, expected);
    return s[axis];
  }
  void read_sizes() {
    read_patch();
    read_grid();
    const auto& shapes = checkpoint_.shapes();
    const auto has_block = [&](std::size_t i) {
      const auto it = shapes.lower_bound(names_.block(i));
      return it != shapes.end() && it->first.starts_with(names_.block(i));
    };
    while (has_block(sizes_.depth)) ++sizes_.depth;
    const bool t = names_.transposed;
    sizes_.hidden =
        outputs_of(names_.block(0) + names_.in_block.fc1, t ? "[dim, hidden]" : "[hidden, dim]");
    sizes_.classes = outputs_of(names_.head, t ? "[dim, classes]" : "[classes, dim]");
    if (t) read_heads();
  }
  /// Where channels of attention are [heads, head_dim].
  void read_heads() {
    const std::string tensor = names_.block(0) + names_.in_block.qkv[0] + names_.weight;
    const Shape& s = shape(tensor);
    if (s.size() != 3 || s[1] == 0 || sizes_.dim % s[1] != 0 || s[2] != sizes_.dim / s[1]) {
      fail_shape(tensor,
                 "[dim, heads, dim / heads] of " + std::to_string(sizes_.dim) + " channels");
    }
    sizes_.heads = s[1];
  }

  /// What the tensors say of a size, and which; 0: nothing.
  std::pair<std::size_t, std::string> found(ModelSize size) const {
    const std::string first = names_.block(0);
    switch (size) {
      case ModelSize::kImage:
        return {sizes_.grid * sizes_.patch, names_.position};
      case ModelSize::kPatch:
        return {sizes_.patch, patch_tensor_};
      case ModelSize::kDim:
        return {sizes_.dim, patch_tensor_};
      case ModelSize::kDepth:
        return {sizes_.depth, names_.blocks + "*"};
      case ModelSize::kHeads:
        return {sizes_.heads, first + names_.in_block.qkv[0] + names_.weight};
      case ModelSize::kHidden:
        return {sizes_.hidden, first + names_.in_block.fc1 + names_.weight};
      case ModelSize::kClasses:
        return {sizes_.classes, names_.head + names_.weight};
      default:  // of other families
        return {};
    }
  }
  void choose_heads() {
    const SizeClaim* claim = options_.heads ? nullptr : agreed_claim(ModelSize::kHeads);
    if (options_.heads) {
      if (sizes_.heads != 0 && sizes_.heads != *options_.heads) {
        fail(ErrorCode::kInvalidArgument, "expected " + std::to_string(sizes_.heads) +
                                              " heads as the tensors have, found " +
                                              std::to_string(*options_.heads));
      }
      set_heads(*options_.heads, ErrorCode::kInvalidArgument, "option heads");
      result_.heads_source = "option";
    } else if (sizes_.heads == 0 && claim != nullptr) {
      set_heads(claim->value, ErrorCode::kFormat, claim->where);
      result_.heads_source = claim->where;
    } else if (sizes_.heads != 0) {
      result_.heads_source = "shapes of the tensors";
    } else {
      const std::size_t heads = usual_heads(sizes_.dim);
      if (heads == 0) {
        fail(ErrorCode::kInvalidArgument,
             "no config tells the number of heads, and " + std::to_string(sizes_.dim) +
                 " channels are no multiple of 64; give the number of heads");
      }
      sizes_.heads = heads;
      result_.heads_source = "assumed";
      result_.notes.push_back("no config tells the number of heads; assumed " +
                              std::to_string(heads) + " as published models of " +
                              std::to_string(sizes_.dim) + " channels have");
    }
  }
  void set_heads(std::size_t heads, ErrorCode code, const std::string& source) {
    if (heads == 0 || sizes_.dim % heads != 0) {
      fail(code, source + ": expected a number of heads that divides " +
                     std::to_string(sizes_.dim) + " channels, found " + std::to_string(heads));
    }
    sizes_.heads = heads;
  }
  std::size_t choose_image_size() {
    const std::size_t own = sizes_.grid * sizes_.patch;
    if (!options_.image_size) return own;
    const auto [size, width] = *options_.image_size;
    if (size != width) {
      fail(ErrorCode::kInvalidArgument,
           "option image size: expected a square, as the positions of a ViT are, found " +
               std::to_string(size) + "x" + std::to_string(width));
    }
    if (size == own) return own;
    if (size == 0 || size % sizes_.patch != 0 || size > kMaxImageSide) {
      fail(ErrorCode::kInvalidArgument, "option image size: expected a multiple of the patches' " +
                                            std::to_string(sizes_.patch) + " pixels up to " +
                                            std::to_string(kMaxImageSide) + ", found " +
                                            std::to_string(size));
    }
    result_.notes.push_back("positions were resampled from images of " + std::to_string(own) +
                            " to " + std::to_string(size) + " pixels");
    return size;
  }

  /// Tensors are finite, but what was computed of them may not be.
  void check_finite() const {
    const auto finite = [](const std::vector<float>& values) {
      return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
    };
    const auto check = [&](const FloatLinear& layer, const std::string& scale) {
      if (finite(layer.weight) && finite(layer.bias)) return;
      fail(ErrorCode::kFormat, "tensor '" + scale + "': times the weights it overflows float32");
    };
    for (std::size_t i = 0; i < vit_.blocks.size(); ++i) {
      check(vit_.blocks[i].proj, names_.block(i) + names_.in_block.scale_attention);
      check(vit_.blocks[i].fc2, names_.block(i) + names_.in_block.scale_mlp);
    }
    if (!finite(vit_.position)) {
      fail(ErrorCode::kFormat, "tensor '" + names_.position + "': resampled it overflows float32");
    }
  }

  /// The recipe of the family that the names belong to.
  PartialPreprocessing usual_preprocessing(std::size_t image_size) const {
    std::string preset;
    std::string why;
    for (const std::string& name : model_names()) {
      const bool deit = name.find("deit") != std::string::npos;
      if (!preset.empty() || (!deit && !name.starts_with("vit"))) continue;
      preset = deit ? "deit" : "vit";
      why = ", by the name";
    }
    if (names_.deit) preset = "deit", why = ", as of distilled models";
    if (preset.empty() && result_.scheme != "timm") {
      preset = "vit";
      why = ", as of models with names of " + names_.scheme;
    }
    if (preset.empty()) {
      preset = "deit";
      why = ", assumed";
    }
    PartialPreprocessing p = preprocessing_preset(preset, image_size);
    p.source += why;
    return p;
  }
  /// Provenance and notes, once all is there.
  void tell() {
    if (!names_.in_block.scale_attention.empty()) {
      result_.notes.push_back("layer scale was folded into the weights before it");
    }
    const auto number = [](std::size_t n) { return std::to_string(n); };
    auto& provenance = vit_.provenance;
    provenance["arch"] = !config_.architecture.empty() ? config_.architecture
                         : names_.deit                 ? "deit"
                                                       : "vit";
    provenance["source"] = source();
    provenance["sizes"] = number(sizes_.depth) + " blocks, " + number(sizes_.dim) + " channels, " +
                          number(sizes_.heads) + " heads, " + number(sizes_.hidden) +
                          " hidden, patches of " + number(sizes_.patch) + " pixels, images of " +
                          number(vit_.image_size) + ", " + number(sizes_.classes) + " classes";
    provenance["preprocessing"] = result_.preprocessing_source;
  }

  const VitNames names_;
  std::string patch_tensor_;
  VitSizes sizes_;
  Vit vit_;
};

}  // namespace

ImportedModel import_vit(const Checkpoint& checkpoint, const FloatImportOptions& options) {
  return Importer(checkpoint, options).run();
}

}  // namespace intaglio
