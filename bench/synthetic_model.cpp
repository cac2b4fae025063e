#include "bench/synthetic_model.h"

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "bench/own_form.h"
#include "bench/synthetic_layers.h"
#include "converters/fqvit_import.h"
#include "converters/lower_network.h"
#include "converters/swin.h"
#include "converters/vit.h"
#include "graph/error.h"

namespace intaglio {
namespace {

constexpr Architecture kArchitectures[] = {
    {"deit_tiny", 224, 16, 192, 3, 12, 1000, true},
    {"deit_small", 224, 16, 384, 6, 12, 1000, true},
    {"deit_base", 224, 16, 768, 12, 12, 1000, true},
    {"vit_base", 224, 16, 768, 12, 12, 1000, false},
    {"vit_large", 224, 16, 1024, 16, 24, 1000, false},
    {"swin_tiny", 224, 4, 96, 3, 6, 1000, true, 7, 7},
    {"swin_small", 224, 4, 96, 3, 18, 1000, true, 7, 7},
    {"swin_base", 224, 4, 128, 4, 18, 1000, true, 7, 12},
    {"vit_micro", 32, 8, 64, 2, 2, 10, false},
    {"swin_micro", 40, 2, 32, 1, 2, 10, true, 4, 4},
};

// Of Swin.
constexpr std::size_t kStages = 4, kDeepStage = 2, kOtherDepth = 2;
constexpr std::size_t kLargeImage = 384;

// Normalized pixels of equally likely values: rms 1.26 with ImageNet's deviations, 0.58 with 0.5.
constexpr float kPixels = 1.26F, kPixelsOfHalves = 0.58F;
const Grid kInputGrid = {4.76F / 255, 114, {}};

/// What models share that no layer has.
template <class ModelT>
void describe(ModelT& model, const Architecture& architecture, std::size_t image_size) {
  Preprocessing& p = model.preprocessing;
  p.height = p.width = static_cast<int>(image_size);
  p.resize = static_cast<int>(image_size * 8 / 7);
  p.mean = p.std = {0.5, 0.5, 0.5};
  if (architecture.input_quantizer) p.mean = {0.485, 0.456, 0.406}, p.std = {0.229, 0.224, 0.225};
  model.provenance = {{"arch", architecture.name}, {"parameters", "pseudo-random"}};
}

CalibratedNetwork synthetic_vit(const Architecture& architecture, std::size_t image_size) {
  const std::size_t dim = architecture.dim;
  SyntheticLayers layers;
  const SyntheticStream stream = layers.stream(dim);
  Vit vit;
  auto& grids = layers.calibration.grids;
  vit.image_size = image_size, vit.patch = architecture.patch, vit.dim = dim;
  vit.heads = architecture.heads, vit.classes = architecture.classes;
  const std::size_t tokens = 1 + vit.patches();
  const float pixels = architecture.input_quantizer ? kPixels : kPixelsOfHalves;
  if (architecture.input_quantizer) grids["qact_input"] = kInputGrid;
  vit.patch_embed =
      layers.linear("patch_embed.proj", dim, 3 * architecture.patch * architecture.patch, &stream);
  grids["patch_embed.qact"] = grids[kTokenGrid] = layers.grid(stream.rms * pixels);
  constexpr float kPosition = 0.5F;
  grids[kPositionGrid] = layers.grid(kPosition);
  vit.tokens.resize(dim), vit.position.resize(tokens * dim);
  layers.fill(vit.tokens, pixels);
  layers.fill(vit.position, kPosition);
  float rms = std::hypot(pixels, kPosition);
  grids["qact1"] = layers.grid(rms, stream);
  for (std::size_t i = 0; i < architecture.depth; ++i) {
    FloatBlock& b = vit.blocks.emplace_back();
    rms = layers.block("blocks." + std::to_string(i) + ".", stream, i, tokens, rms,
                       {b.norm1, b.norm2, b.qkv, b.proj, b.fc1, b.fc2, "attn.qact2", "attn.qact3"});
  }
  vit.norm = layers.norm(stream);
  grids["qact2"] = layers.norm_grid();
  vit.head = layers.linear("head", architecture.classes, dim);
  describe(vit, architecture, image_size);
  return {network_of(std::move(vit)), std::move(layers.calibration)};
}

/// A block's relative position bias.
std::vector<float> position_bias(SyntheticLayers& layers, const std::string& block,
                                 const SwinStage& stage) {
  constexpr float kBias = 0.5F;
  const std::size_t side = 2 * stage.window - 1;
  std::vector<float> bias(stage.heads * side * side);
  layers.fill(bias, kBias);
  auto& grids = layers.calibration.grids;
  grids[block + "attn.qact_table"] = layers.grid(kBias);
  grids[block + "attn.qact2"] = layers.grid(std::hypot(SyntheticLayers::kNorm, kBias));
  return bias;
}

/// The first stream has one scale, though its channels differ as those of the others. Returns its
/// rms.
float patch_norm(SyntheticLayers& layers, Swin& swin, const SyntheticStream& stream) {
  FloatNorm norm = layers.norm({std::vector<std::uint8_t>(stream.dim(), 0)});
  for (std::size_t c = 0; c < stream.dim(); ++c) {
    for (float* p : {&norm.gamma[c], &norm.beta[c]}) *p = std::ldexp(*p, stream.exponents[c]);
  }
  swin.patch_norm = std::move(norm);
  auto& grids = layers.calibration.grids;
  grids["patch_embed.qact_before_norm"] = layers.grid(kPixels);
  grids["patch_embed.qact"] = layers.grid(stream.rms * SyntheticLayers::kNorm);
  return SyntheticLayers::kNorm;
}

/// Makes `depth` blocks; `before` of the model are there already. Returns the stream's rms.
float fill_stage(SyntheticLayers& layers, const std::string& name, SwinStage& stage,
                 const SyntheticStream& stream, std::size_t before, std::size_t depth, float rms) {
  for (std::size_t i = 0; i < depth; ++i) {
    const std::string block = name + "blocks." + std::to_string(i) + ".";
    SwinBlock& b = stage.blocks.emplace_back();
    b.bias = position_bias(layers, block, stage);
    rms = layers.block(block, stream, before + i, stage.window * stage.window, rms,
                       {b.norm1, b.norm2, b.qkv, b.proj, b.fc1, b.fc2, "attn.qact3", "attn.qact4"});
  }
  return rms;
}

/// Of `stream` onto a wider one, whose rms it returns.
float add_merge(SyntheticLayers& layers, const std::string& name, SwinStage& stage,
                const SyntheticStream& stream, const SyntheticStream& wider) {
  stage.merge = {layers.norm(stream, 4),
                 layers.linear(name + "reduction", wider.dim(), 4 * stream.dim(), &wider)};
  stage.merge->reduction.bias.clear();
  layers.calibration.grids[name + "qact1"] = layers.norm_grid();
  layers.calibration.grids[name + "qact2"] = layers.grid(SyntheticLayers::kNorm, wider);
  return SyntheticLayers::kNorm;
}

CalibratedNetwork synthetic_swin(const Architecture& architecture, std::size_t image_size) {
  SyntheticLayers layers;
  auto& grids = layers.calibration.grids;
  SyntheticStream stream = layers.stream(architecture.dim);
  Swin swin;
  swin.image_height = swin.image_width = image_size;
  swin.patch = architecture.patch, swin.dim = architecture.dim;
  swin.classes = architecture.classes;
  grids["qact_input"] = kInputGrid;
  swin.patch_embed = layers.linear("patch_embed.proj", swin.dim, 3 * swin.patch * swin.patch);
  float rms = patch_norm(layers, swin, stream);
  std::size_t blocks = 0;
  for (std::size_t i = 0; i < kStages; ++i) {
    const std::string name = "layers." + std::to_string(i) + ".";
    const std::size_t depth = i == kDeepStage ? architecture.depth : kOtherDepth;
    SwinStage& stage = swin.stages.emplace_back();
    stage.heads = architecture.heads << i;
    stage.window = image_size == kLargeImage ? architecture.large_window : architecture.window;
    rms = fill_stage(layers, name, stage, stream, blocks, depth, rms);
    blocks += depth;
    if (i + 1 == kStages) break;
    SyntheticStream wider = layers.stream(2 * stream.dim());
    rms = add_merge(layers, name + "downsample.", stage, stream, wider);
    stream = std::move(wider);
  }
  swin.norm = layers.norm(stream);
  grids["qact2"] = layers.norm_grid();
  constexpr float kCommon = 0.5F;  // what the tokens have in common, as a share of them
  grids["qact3"] = layers.grid(kCommon * SyntheticLayers::kNorm);
  swin.head = layers.linear("head", swin.classes, stream.dim());
  describe(swin, architecture, image_size);
  return {network_of(std::move(swin)), std::move(layers.calibration)};
}

}  // namespace

std::span<const Architecture> architectures() {
  return kArchitectures;
}

const Architecture& find_architecture(const std::string& name) {
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    if (name == architecture.name) return architecture;
    known += std::string(known.empty() ? "" : ", ") + architecture.name;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "unknown architecture '" + name + "'; known are " + known);
}

Graph synthetic_model(const Architecture& architecture, std::size_t image_size,
                      SyntheticMethod method) {
  if (image_size == 0) image_size = architecture.image_size;
  const bool swin = architecture.window != 0;
  if (!swin && image_size % architecture.patch != 0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        std::string(architecture.name) + ": the image size must be a multiple of the patch, " +
            std::to_string(architecture.patch) + " pixels, not " + std::to_string(image_size));
  }
  CalibratedNetwork made =
      swin ? synthetic_swin(architecture, image_size) : synthetic_vit(architecture, image_size);
  if (method == SyntheticMethod::kDefault) made = own_form(std::move(made));
  return lower(made.network, made.calibration, {});
}

}  // namespace intaglio
