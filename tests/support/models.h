// Models that tests run: the embedded default and the small goldens, as bytes of .intg files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/intaglio.h"
#include "graph/safetensors.h"

namespace intaglio::test {

struct TestModel {
  std::string name;
  std::vector<std::byte> bytes;  ///< of the .intg file
};

/// converters/glyphs, imported with its labels.
TestModel embedded_model();
/// embedded_model() in the forms beyond the paper's: sums straight onto the stream (u8 or s16) and
/// row-relative attention.
TestModel embedded_model_beyond(DType stream);
/// embedded_model() with uniform probabilities.
TestModel embedded_model_uniform();
/// embedded_model() that classifies another row of the last block.
TestModel embedded_model_of_token(int row);
/// embedded_model() whose head reads two rows: see with_two_tokens().
TestModel embedded_model_with_two_tokens(int row, int first, int second);
/// These, one with exponents behind GELU, and the golden models that lie in the repository.
std::vector<TestModel> small_models();

/// Pixels of the model's size: noise, extremes and gradients from a fixed seed.
std::vector<Image> test_images(const Model& model, std::size_t count);
/// The embedded model's sample images in the order of labels.csv, decoded and preprocessed.
std::vector<Image> sample_images(const Model& model);

/// XXH3-64 of the logits' bytes.
std::uint64_t signature(std::span<const std::int32_t> logits);

/// signature() of the embedded model's logits on sample_images().
inline constexpr std::uint64_t kEmbeddedSignature = 0x9c3245915ae862f;
/// signature() of DeiT-Tiny's logits on the first three reference crops.
inline constexpr std::uint64_t kDeitTinySignature = 0x6f7982a5f27ebe5;

}  // namespace intaglio::test
