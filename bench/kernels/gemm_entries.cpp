#include <bit>
#include <cmath>

#include "bench/kernels/entries.h"
#include "bench/kernels/operands.h"

namespace intaglio::bench {

using kernels::OutputType;

std::string GemmShape::name() const {
  return layer + " " + std::to_string(m) + "x" + std::to_string(k) + "x" + std::to_string(n);
}

std::vector<GemmShape> gemm_shapes() {
  std::vector<GemmShape> shapes;
  for (const std::size_t m : {kTokens, std::size_t{1}}) {
    for (const auto& [model, dim] : kModels) {
      const std::string prefix = std::string(model) + " ";
      shapes.push_back({prefix + "qkv", m, dim, 3 * dim, OutputType::kU8});
      shapes.push_back({prefix + "proj", m, dim, dim, OutputType::kU8});
      shapes.push_back({prefix + "fc1", m, dim, 4 * dim, OutputType::kS16});
      shapes.push_back({prefix + "fc2", m, 4 * dim, dim, OutputType::kU8});
      shapes.push_back({prefix + "head", m, dim, 1000, OutputType::kS32});
    }
  }
  return shapes;
}

GemmOperands gemm_operands(const GemmShape& shape) {
  test::Rng rng(shape.k * 65537 + shape.n);
  return {random_values<std::uint8_t>(rng, shape.m * shape.k),
          random_values<std::int8_t>(rng, shape.n * shape.k)};
}

int spread_shift(std::size_t k) {
  // A product is about 147 * 74 (root mean square); the sum of k of them onto 40 codes.
  return static_cast<int>(std::log2(std::sqrt(static_cast<double>(k)) * 147 * 74 / 40));
}

namespace {

std::size_t bytes_of(OutputType output) {
  return output == OutputType::kU8 ? 1 : output == OutputType::kS16 ? 2 : 4;
}

struct Gemm {
  Operand<std::uint8_t> src;
  Operand<std::byte> packed;
  std::vector<std::int32_t> multiplier;
  std::vector<std::int64_t> bias;
  Operand<std::byte> dst;
  kernels::GemmParams params;

  Gemm(const GemmShape& shape, const GemmOperands& operands, const GemmScaling& scaling,
       const kernels::KernelTable& table)
      : src(operands.src),
        packed(table.gemm_packed_bytes(shape.n, shape.k)),
        multiplier(shape.n, scaling.multiplier),
        bias(shape.n, scaling.bias),
        dst(shape.m * shape.n * bytes_of(shape.output)),
        params{shape.n,     shape.k,       packed.data(),      multiplier.data(),
               bias.data(), scaling.shift, scaling.zero_point, shape.output} {
    table.gemm_pack(operands.weight.data(), shape.n, shape.k, packed.data());
  }
};

}  // namespace

Prepared prepare_gemm(const GemmShape& shape, const GemmScaling& scaling,
                      const kernels::KernelTable& table) {
  const auto gemm = std::make_shared<Gemm>(shape, gemm_operands(shape), scaling, table);
  return {[gemm, m = shape.m, n = shape.n, k = shape.k, run = table.gemm_u8s8] {
            run(gemm->params, gemm->src.data(), k, m, gemm->dst.data(), n);
          },
          [gemm] { return gemm->dst.bytes(); }};
}

std::vector<Work> gemm_works() {
  std::vector<Work> works;
  for (const GemmShape& shape : gemm_shapes()) {
    // Spread over the type of the result: s16 has eight bits more than u8, s32 needs no shift.
    const int finer = shape.output == OutputType::kU8    ? 0
                      : shape.output == OutputType::kS16 ? 8
                                                         : 9;
    const int shift = 30 + spread_shift(shape.k) - finer;
    const GemmScaling scaling = {(1 << 29) + 12345678, std::int64_t{1} << (shift - 1), shift,
                                 shape.output == OutputType::kU8 ? 128 : 0};
    works.push_back({"gemm_u8s8", shape.name(), shape.macs(), 0,
                     [shape, scaling](const kernels::KernelTable& table) {
                       return prepare_gemm(shape, scaling, table);
                     }});
  }
  return works;
}

}  // namespace intaglio::bench
