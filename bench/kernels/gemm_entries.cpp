#include <cmath>

#include "bench/kernels/entries.h"
#include "bench/kernels/lowered.h"
#include "bench/kernels/operands.h"
#include "converters/lower.h"
#include "kernels/cpu.h"

namespace intaglio::bench {
namespace {

using kernels::CodeType;
using kernels::GemmEpilogue;
using kernels::KernelTable;

constexpr std::int32_t kMultiplier = (1 << 29) + 12345678;

/// Root mean square of the sums of k products of random operands.
double sum_size(std::size_t k) {
  return std::sqrt(static_cast<double>(k)) * 147 * 74;
}

/// Spreads sums over the type: s16 has eight bits more than u8, s32 needs no shift.
GemmScaling spread(std::size_t k, CodeType output) {
  const int finer = output == CodeType::kU8 ? 0 : output == CodeType::kS16 ? 8 : 9;
  const int shift = 30 + spread_shift(k) - finer;
  return {kMultiplier, std::int64_t{1} << (shift - 1), shift, output == CodeType::kU8 ? 128 : 0};
}

/// Sums onto the s16 codes that GELU takes: a standard normal distribution.
GemmScaling onto_gelu(std::size_t k) {
  const FixedPoint factor =
      to_fixed_point(std::vector{1 / (lowered_gelu().src_scale * sum_size(k))});
  return {factor.multiplier[0], std::int64_t{1} << (factor.shift - 1), factor.shift, 0};
}

/// As spread(), at the shift that a residual stream of nearly the same scale has: its multiplier is
/// about 2^30 and the product's much smaller.
GemmScaling beside_stream(std::size_t k, CodeType output) {
  constexpr int kShift = 30;
  const GemmScaling own = spread(k, output);
  return {kMultiplier >> (own.shift - kShift), std::int64_t{1} << (kShift - 1), kShift,
          own.zero_point};
}

/// A product with its operands in place.
struct Gemm {
  Operand<std::uint8_t> src;
  Operand<std::byte> packed;
  std::vector<std::int32_t> multiplier;
  std::vector<std::int64_t> bias;
  kernels::GemmParams params;

  // What epilogues need.
  kernels::GeluParams gelu;
  std::vector<std::uint8_t> gelu_exponents;
  std::unique_ptr<Residual> sum;
  kernels::ResidualParams add;
  std::vector<std::int32_t> residual_multiplier;
  Operand<std::byte> residual;

  Operand<std::byte> dst;

  Gemm(const GemmShape& shape, const GemmScaling& scaling, const KernelTable& table)
      : packed(table.gemm_packed_bytes(shape.n, shape.k)),
        multiplier(shape.n, scaling.multiplier),
        bias(shape.n, scaling.bias),
        params{.n = shape.n,
               .k = shape.k,
               .packed = packed.data(),
               .multiplier = multiplier.data(),
               .bias = bias.data(),
               .shift = scaling.shift,
               .zero_point = scaling.zero_point,
               .output = shape.output,
               .interleave = kernels::prefers_interleaving()} {
    const GemmOperands operands = gemm_operands(shape);
    src = Operand(operands.src);
    table.gemm_pack(operands.weight.data(), shape.n, shape.k, packed.data());
  }

  void fuse(GemmEpilogue epilogue, std::size_t m) {
    params.epilogue = epilogue;
    if (epilogue == GemmEpilogue::kGelu) {
      gelu = lowered_gelu().params;
      if (!gelu_exponents.empty()) gelu.exponents = gelu_exponents.data();
      params.gelu = &gelu;
      return;
    }
    if (epilogue == GemmEpilogue::kAddCodes) {
      sum = std::make_unique<Residual>(params.n);
      add = sum->params();
      params.add = &add;
      params.zero_point = add.zero_a;
    } else {
      residual_multiplier.assign(params.n, (1 << 30) - 7654321);
      params.residual_multiplier = residual_multiplier.data();
      params.residual_type = params.output;
      params.residual_zero = params.zero_point;
    }
    // s16 codes of any two bytes.
    Rng rng(m);
    residual = Operand(
        random_values<std::byte>(rng, m * params.n * kernels::stored_bytes(params), 0, 255));
  }
};

/// `gemm` with its results' memory.
Prepared prepared_gemm(const std::shared_ptr<Gemm>& gemm, std::size_t m, const KernelTable& table) {
  gemm->dst = Operand<std::byte>(m * gemm->params.n * kernels::stored_bytes(gemm->params));
  return {[gemm, m, run = table.gemm_u8s8] {
            const kernels::GemmParams& params = gemm->params;
            run(params, {0, params.n}, gemm->src.data(), params.k, m, gemm->residual.data(),
                gemm->dst.data(), params.n);
          },
          [gemm] { return gemm->dst.bytes(); }};
}

Prepared prepare_fused(const GemmShape& shape, GemmEpilogue epilogue, const KernelTable& table) {
  const GemmScaling scaling = epilogue == GemmEpilogue::kGelu ? onto_gelu(shape.k)
                              : epilogue == GemmEpilogue::kAddSums
                                  ? beside_stream(shape.k, shape.output)
                                  : spread(shape.k, shape.output);
  const auto gemm = std::make_shared<Gemm>(shape, scaling, table);
  gemm->fuse(epilogue, shape.m);
  return prepared_gemm(gemm, shape.m, table);
}

/// GELU onto channels with scales of their own.
Prepared prepare_gelu_ptf(const GemmShape& shape, const KernelTable& table) {
  const auto gemm = std::make_shared<Gemm>(shape, onto_gelu(shape.k), table);
  Rng rng(shape.n);
  gemm->gelu_exponents = random_values<std::uint8_t>(rng, shape.n, 0, 3);
  gemm->fuse(GemmEpilogue::kGelu, shape.m);
  return prepared_gemm(gemm, shape.m, table);
}

}  // namespace

std::string GemmShape::name() const {
  return layer + " " + std::to_string(m) + "x" + std::to_string(k) + "x" + std::to_string(n);
}

std::vector<GemmShape> gemm_shapes() {
  std::vector<GemmShape> shapes;
  const auto add_block = [&](const std::string& prefix, std::size_t m, std::size_t dim) {
    shapes.push_back({prefix + "qkv", m, dim, 3 * dim, CodeType::kU8});
    shapes.push_back({prefix + "proj", m, dim, dim, CodeType::kU8});
    shapes.push_back({prefix + "fc1", m, dim, 4 * dim, CodeType::kS16});
    shapes.push_back({prefix + "fc2", m, 4 * dim, dim, CodeType::kU8});
  };
  for (const std::size_t m : {kTokens, std::size_t{1}}) {
    for (const ModelShape& model : kModels) {
      const std::string prefix = std::string(model.name) + " ";
      add_block(prefix, m, model.dim);
      shapes.push_back({prefix + "head", m, model.dim, 1000, CodeType::kS32});
    }
  }
  for (const ModelShape& stage : kSwinStages) {
    const std::string prefix = std::string(stage.name) + " ";
    add_block(prefix, stage.tokens, stage.dim);
    if (stage.tokens == kWindow * kWindow) continue;  // the last
    shapes.push_back(
        {prefix + "merge", stage.tokens / 4, 4 * stage.dim, 2 * stage.dim, CodeType::kU8});
  }
  return shapes;
}

GemmOperands gemm_operands(const GemmShape& shape) {
  Rng rng(shape.k * 65537 + shape.n);
  return {random_values<std::uint8_t>(rng, shape.m * shape.k),
          random_values<std::int8_t>(rng, shape.n * shape.k)};
}

int spread_shift(std::size_t k) {
  return static_cast<int>(std::log2(sum_size(k) / 40));
}

Prepared prepare_gemm(const GemmShape& shape, const GemmScaling& scaling,
                      const KernelTable& table) {
  return prepared_gemm(std::make_shared<Gemm>(shape, scaling, table), shape.m, table);
}

std::vector<Work> gemm_works() {
  std::vector<Work> works;
  for (const GemmShape& shape : gemm_shapes()) {
    works.push_back({kPlainGemm, shape.name(), shape.macs(), 0, [shape](const KernelTable& table) {
                       return prepare_gemm(shape, spread(shape.k, shape.output), table);
                     }});
  }
  return works;
}

std::vector<Work> fused_gemm_works() {
  std::vector<Work> works;
  const auto add = [&](const char* kernel, GemmEpilogue epilogue, const GemmShape& shape) {
    works.push_back({kernel, shape.name(), shape.macs(), 0, [=](const KernelTable& table) {
                       return prepare_fused(shape, epilogue, table);
                     }});
  };
  const auto add_block = [&](const ModelShape& model) {
    const std::string name = model.name;
    const std::size_t m = model.tokens;
    const std::size_t dim = model.dim;
    const GemmShape fc1 = {name + " fc1", m, dim, 4 * dim, CodeType::kS16};
    add("gemm_gelu", GemmEpilogue::kGelu, fc1);
    works.push_back({"gemm_gelu_ptf", fc1.name(), fc1.macs(), 0,
                     [fc1](const KernelTable& table) { return prepare_gelu_ptf(fc1, table); }});
    GemmShape onto_stream[] = {{name + " proj", m, dim, dim, CodeType::kU8},
                               {name + " fc2", m, 4 * dim, dim, CodeType::kU8}};
    for (GemmShape& shape : onto_stream) {
      add("gemm_add_codes", GemmEpilogue::kAddCodes, shape);
      add("gemm_add_sums_u8", GemmEpilogue::kAddSums, shape);
      shape.output = CodeType::kS16;
      add("gemm_add_words", GemmEpilogue::kAddWords, shape);
      add("gemm_add_sums_s16", GemmEpilogue::kAddSums, shape);
    }
  };
  for (const ModelShape& model : kModels) add_block(model);
  for (const ModelShape& stage : kSwinStages) add_block(stage);
  return works;
}

}  // namespace intaglio::bench
