#include <algorithm>
#include <cctype>
#include <cmath>
#include <string_view>
#include <utility>

#include "converters/float_importer.h"
#include "converters/swin_loader.h"
#include "converters/swin_names.h"
#include "graph/check.h"
#include "graph/error.h"

namespace intaglio {
namespace {

constexpr std::size_t kUsualImage = 224;
constexpr std::size_t kMaxStages = 8;
constexpr std::size_t kMaxWindow = 64;
constexpr float kUsualEpsilon = 1e-5F;

/// Pixels in names like swin_tiny_patch4_window7_224; 0: none.
std::size_t image_size_of(const std::string& name) {
  constexpr std::string_view kWord = "window";
  std::size_t at = name.find(kWord);
  if (at == std::string::npos) return 0;
  const auto digits = [&](std::size_t from) {
    std::size_t end = from;
    while (end < name.size() && std::isdigit(static_cast<unsigned char>(name[end])) != 0) ++end;
    return end - from;
  };
  at += kWord.size();
  at += digits(at);
  if (at == name.size() || (name[at] != '_' && name[at] != '-')) return 0;
  const std::size_t count = digits(++at);
  return count >= 1 && count <= 4 ? std::stoul(name.substr(at, count)) : 0;
}

class Importer : FloatImporter {
 public:
  Importer(const Checkpoint& checkpoint, const FloatImportOptions& options)
      : FloatImporter(checkpoint, options, ModelFamily::kSwin),
        names_(recognize_swin_names(checkpoint)) {}

  ImportedModel run() {
    result_.scheme = names_.scheme;
    result_.heads_source = "shapes of the tensors";
    if (options_.heads) {
      fail(ErrorCode::kInvalidArgument, "option heads: the tensors of a Swin tell them");
    }
    read_sizes();
    check_claims([this](const SizeClaim& claim) { return found(claim); });
    const ImageSize image_size = choose_image_size();
    swin_.image_height = image_size.height, swin_.image_width = image_size.width;
    swin_.patch = sizes_.patch, swin_.dim = sizes_.dim, swin_.classes = sizes_.classes;
    PartialPreprocessing usual = preprocessing_preset("swin", image_size.longer());
    usual.source += ", as of Swin";
    swin_.preprocessing = choose_preprocessing(image_size, usual);
    const auto epsilon = static_cast<float>(config_.norm_epsilon.value_or(kUsualEpsilon));
    load_swin(checkpoint_, names_, sizes_, epsilon, swin_);
    tell();
    result_.model = std::move(swin_);
    return std::move(result_);
  }

 private:
  std::string patch_tensor() const { return names_.patch_embed + ".weight"; }
  std::string head_tensor() const { return names_.head + ".weight"; }
  std::string table_of(std::size_t stage) const { return names_.block(stage, 0) + names_.table; }
  std::string fc1_of(std::size_t stage) const {
    return names_.block(stage, 0) + names_.in_block.fc1 + ".weight";
  }

  void read_sizes() {
    const Shape& patch = shape(patch_tensor());
    if (patch.size() != 4 || patch[0] == 0 || patch[1] != 3 || patch[2] == 0 ||
        patch[2] != patch[3]) {
      fail_shape(patch_tensor(), "[dim, 3, patch, patch]");
    }
    sizes_.dim = patch[0];
    sizes_.patch = patch[2];
    for (std::size_t i = 0; has_any(checkpoint_, names_.stage(i)); ++i) {
      if (i == kMaxStages) {
        fail(ErrorCode::kLimit, "tensors '" + names_.stages + "*': expected at most " +
                                    std::to_string(kMaxStages) + " stages");
      }
      sizes_.stages.push_back(read_stage(i));
    }
    if (names_.head.empty()) {
      if (!names_.norm.empty() && !has_any(checkpoint_, names_.norm + ".")) {
        fail(ErrorCode::kUnsupported,
             "the model has neither a classifier nor a norm behind its last stage ('" +
                 names_.norm + ".weight' or '" + names_.norm +
                 std::to_string(sizes_.stages.size() - 1) + ".weight')");
      }
      return;
    }
    const Shape& head = shape(head_tensor());
    if (head.size() != 2 || head[0] == 0) fail_shape(head_tensor(), "[classes, dim]");
    sizes_.classes = head[0];
  }
  SwinSizes::Stage read_stage(std::size_t index) const {
    SwinSizes::Stage stage;
    while (has_any(checkpoint_, names_.block(index, stage.depth))) ++stage.depth;
    const Shape& table = shape(table_of(index));
    const std::size_t dim = sizes_.dim_of(index);
    const auto side =
        table.empty() ? 0 : static_cast<std::size_t>(std::sqrt(static_cast<double>(table[0])));
    if (table.size() != 2 || side * side != table[0] || side % 2 == 0 ||
        side > 2 * kMaxWindow - 1) {
      fail_shape(table_of(index), "[(2 * window - 1)^2, heads], a window of up to " +
                                      std::to_string(kMaxWindow) + " tokens to a side");
    }
    stage.window = (side + 1) / 2;
    stage.heads = table[1];
    if (stage.heads == 0 || dim % stage.heads != 0) {
      fail_shape(table_of(index), "[" + std::to_string(table[0]) + ", heads] that divide " +
                                      std::to_string(dim) + " channels");
    }
    const Shape& fc1 = shape(fc1_of(index));
    if (fc1.size() != 2 || fc1[0] == 0) fail_shape(fc1_of(index), "[hidden, dim]");
    stage.hidden = fc1[0];
    return stage;
  }

  /// What the tensors say of a size, and which; 0: nothing.
  std::pair<std::size_t, std::string> found(const SizeClaim& claim) const {
    // A list may be too long; that is told by its length.
    const std::size_t last = sizes_.stages.size() - 1;
    const std::size_t i = std::min(claim.stage, last);
    switch (claim.size) {
      case ModelSize::kPatch:
        return {sizes_.patch, patch_tensor()};
      case ModelSize::kDim:
        return {sizes_.dim, patch_tensor()};
      case ModelSize::kLastDim:
        return {sizes_.dim_of(last), patch_tensor()};
      case ModelSize::kStages:
        return {sizes_.stages.size(), names_.stages + "*"};
      case ModelSize::kDepth:
        return {sizes_.stages[i].depth, names_.stage(i) + "blocks.*"};
      case ModelSize::kHeads:
        return {sizes_.stages[i].heads, table_of(i)};
      case ModelSize::kWindow:
        return {sizes_.stages[0].window, table_of(0)};
      case ModelSize::kClasses:
        return {sizes_.classes, head_tensor()};
      default:  // told by no tensor, or of other families
        return {};
    }
  }

  ImageSize choose_image_size() {
    if (options_.image_size) {
      for (const std::size_t side : {options_.image_size->height, options_.image_size->width}) {
        check_image_side(side, ErrorCode::kInvalidArgument, "option image size");
      }
      return *options_.image_size;
    }
    if (const SizeClaim* claim = agreed_claim(ModelSize::kImage)) {
      check_image_side(claim->value, ErrorCode::kLimit, claim->where);
      return {claim->value, claim->value};
    }
    for (const std::string& name : model_names()) {
      const std::size_t size = image_size_of(name);
      if (size != 0 && size <= kMaxImageSide) return {size, size};
    }
    result_.notes.push_back("nothing tells the size of images; assumed " +
                            std::to_string(kUsualImage) + " pixels");
    return {kUsualImage, kUsualImage};
  }
  void check_image_side(std::size_t side, ErrorCode code, const std::string& source) const {
    if (side >= 1 && side <= kMaxImageSide) return;
    fail(code, source + ": expected images of 1 to " + std::to_string(kMaxImageSide) +
                   " pixels to a side, found " + std::to_string(side));
  }

  /// Provenance, once all is there.
  void tell() {
    const auto number = [](std::size_t n) { return std::to_string(n); };
    std::string depths, heads;
    for (const SwinSizes::Stage& stage : sizes_.stages) {
      if (!depths.empty()) depths += '+', heads += '/';
      depths += number(stage.depth);
      heads += number(stage.heads);
    }
    std::string image = number(swin_.image_height);
    if (swin_.image_width != swin_.image_height) image += "x" + number(swin_.image_width);
    auto& provenance = swin_.provenance;
    provenance["arch"] = config_.architecture.empty() ? "swin" : config_.architecture;
    provenance["source"] = source();
    provenance["sizes"] =
        depths + " blocks, " + number(sizes_.dim) + " channels, " + heads + " heads, windows of " +
        number(sizes_.stages[0].window) + " tokens, patches of " + number(sizes_.patch) +
        " pixels, images of " + image + ", " +
        (sizes_.classes == 0 ? "no classifier" : number(sizes_.classes) + " classes");
    provenance["preprocessing"] = result_.preprocessing_source;
  }

  const SwinNames names_;
  SwinSizes sizes_;
  Swin swin_;
};

}  // namespace

ImportedModel import_swin(const Checkpoint& checkpoint, const FloatImportOptions& options) {
  return Importer(checkpoint, options).run();
}

}  // namespace intaglio
