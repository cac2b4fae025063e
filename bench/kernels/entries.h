// What is measured: every kernel of every table on the shapes of real models, and the peers' GEMMs
// on the same operands.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace intaglio::bench {

/// A computation with its operands in place.
struct Prepared {
  std::function<void()> run;
  std::function<std::vector<std::byte>()> result;  ///< of the last run
};

/// One kernel on one shape, for any table.
struct Work {
  std::string kernel;  ///< an entry of KernelTable, or a GEMM with its epilogue
  std::string shape;
  double macs = 0;   ///< per run
  double bytes = 0;  ///< read and written per run; 0 where MACs are the natural unit
  std::function<Prepared(const kernels::KernelTable&)> prepare;
};

/// A row of the benchmark.
struct Entry {
  std::string kernel, shape;
  std::string engine;      ///< the table's instruction set, or a peer
  kernels::Isa yardstick;  ///< whose peak it is held against
  double macs = 0, bytes = 0;
  std::function<Prepared()> prepare;
  std::function<std::vector<std::byte>()> expected;  ///< by the scalar table
};

/// Tokens of an image of 224 x 224 in patches of 16 x 16, with the class token.
inline constexpr std::size_t kTokens = 197;

struct ModelShape {
  const char* name;
  std::size_t dim, tokens;
};
inline constexpr ModelShape kModels[] = {{"DeiT-T", 192, kTokens},
                                         {"DeiT-S", 384, kTokens},
                                         {"DeiT-B", 768, kTokens},
                                         {"ViT-L", 1024, kTokens}};
inline constexpr std::size_t kHeadDim = 64;

/// The stages of Swin-T on 224 x 224 pixels: maps of 56, 28, 14 and 7 tokens to a side.
inline constexpr ModelShape kSwinStages[] = {{"Swin-T 1", 96, 56 * 56},
                                             {"Swin-T 2", 192, 28 * 28},
                                             {"Swin-T 3", 384, 14 * 14},
                                             {"Swin-T 4", 768, 7 * 7}};
inline constexpr std::size_t kSwinHeadDim = 32, kWindow = 7;

inline constexpr const char* kPlainGemm = "gemm_u8s8";

/// A linear layer of a model.
struct GemmShape {
  std::string layer;
  std::size_t m, k, n;
  kernels::CodeType output;

  std::string name() const;
  double macs() const { return static_cast<double>(m) * static_cast<double>(k * n); }
};
std::vector<GemmShape> gemm_shapes();

struct GemmOperands {
  std::vector<std::uint8_t> src;    // [m, k]
  std::vector<std::int8_t> weight;  // [n, k]
};
/// The same operands for the same shape.
GemmOperands gemm_operands(const GemmShape& shape);

/// How accumulators become results: the same for all channels.
struct GemmScaling {
  std::int32_t multiplier;
  std::int64_t bias;
  int shift;
  std::int32_t zero_point;
};
Prepared prepare_gemm(const GemmShape& shape, const GemmScaling& scaling,
                      const kernels::KernelTable& table);
/// Bits to shift accumulators over depth k of random operands right, so that they spread over u8.
int spread_shift(std::size_t k);

std::vector<Work> gemm_works();
std::vector<Work> fused_gemm_works();
std::vector<Work> attention_works();
std::vector<Work> row_works();

/// `works` on every table that this CPU can run.
std::vector<Entry> entries_of(const std::vector<Work>& works);
/// oneDNN on gemm_shapes(): u8 x s8 to s32 and to u8, and f32.
std::vector<Entry> onednn_entries();

}  // namespace intaglio::bench
