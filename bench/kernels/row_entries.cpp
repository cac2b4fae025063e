// Kernels that work row by row or element by element, on whole activations of one image.
#include "bench/kernels/entries.h"
#include "bench/kernels/lowered.h"
#include "bench/kernels/operands.h"

namespace intaglio::bench {
namespace {

using kernels::KernelTable;

/// Of a stream of u8 or s16 codes.
template <class T>
Prepared prepare_layernorm(std::size_t dim, const KernelTable& table) {
  constexpr bool kWords = sizeof(T) == 2;
  struct State {
    std::vector<std::uint8_t> exponents;
    std::vector<std::int32_t> multiplier;
    std::vector<std::int64_t> bias;
    Operand<T> src;
    Operand<std::uint8_t> dst;
  };
  Rng rng(dim);
  const auto s = std::shared_ptr<State>(new State{
      random_values<std::uint8_t>(rng, dim, 0, 3),
      random_values<std::int32_t>(rng, dim, 1 << 25, 1 << 27),
      random_values<std::int64_t>(rng, dim, -(std::int64_t{1} << 46), std::int64_t{1} << 46),
      Operand(random_values<T>(rng, kTokens * dim)), Operand<std::uint8_t>(kTokens * dim)});
  const kernels::LayerNormParams params = {
      .dim = dim,
      .src_type = kWords ? kernels::CodeType::kS16 : kernels::CodeType::kU8,
      .zero_src = kWords ? 0 : 128,
      .exponents = s->exponents.data(),
      .multiplier = s->multiplier.data(),
      .bias = s->bias.data(),
      .shift = 43,
      .zero_point = 128};
  return {[=, run = table.layernorm_ptf] { run(params, s->src.data(), kTokens, s->dst.data()); },
          [s] { return s->dst.bytes(); }};
}

Prepared prepare_gelu(std::size_t count, const KernelTable& table) {
  struct State {
    Operand<std::int16_t> src;
    Operand<std::uint8_t> dst;
  };
  Rng rng(count);
  const auto s = std::shared_ptr<State>(
      new State{Operand(random_values<std::int16_t>(rng, count)), Operand<std::uint8_t>(count)});
  return {[=, params = lowered_gelu().params, run = table.gelu_table] {
            run(params, s->src.data(), count, s->dst.data());
          },
          [s] { return s->dst.bytes(); }};
}

Prepared prepare_residual(std::size_t dim, const KernelTable& table) {
  struct State {
    Residual residual;
    Operand<std::uint8_t> a, b, dst;
  };
  Rng rng(dim);
  const auto s = std::shared_ptr<State>(
      new State{Residual(dim), Operand(random_values<std::uint8_t>(rng, kTokens * dim)),
                Operand(random_values<std::uint8_t>(rng, kTokens * dim)),
                Operand<std::uint8_t>(kTokens * dim)});
  return {[=, params = s->residual.params(), run = table.residual_add] {
            run(params, s->a.data(), s->b.data(), kTokens, s->dst.data());
          },
          [s] { return s->dst.bytes(); }};
}

Prepared prepare_add_s16(std::size_t count, const KernelTable& table) {
  struct State {
    Operand<std::int16_t> a, b, dst;
  };
  Rng rng(count);
  const auto s = std::shared_ptr<State>(new State{Operand(random_values<std::int16_t>(rng, count)),
                                                  Operand(random_values<std::int16_t>(rng, count)),
                                                  Operand<std::int16_t>(count)});
  return {[=, run = table.add_s16] { run(s->a.data(), s->b.data(), count, s->dst.data()); },
          [s] { return s->dst.bytes(); }};
}

Prepared prepare_patches(const KernelTable& table) {
  constexpr std::size_t kSide = 224;
  struct State {
    std::vector<std::uint8_t> codes;
    Operand<std::uint8_t> src, dst;
  };
  Rng rng(kSide);
  const auto s =
      std::shared_ptr<State>(new State{random_values<std::uint8_t>(rng, 3 * 256),
                                       Operand(random_values<std::uint8_t>(rng, kSide * kSide * 3)),
                                       Operand<std::uint8_t>(kSide * kSide * 3)});
  const kernels::PatchParams params = {kSide, kSide, 16, s->codes.data()};
  return {[=, run = table.pixels_to_patches] {
            run(params, s->src.data(), kSide * 3, 0, kTokens - 1, s->dst.data());
          },
          [s] { return s->dst.bytes(); }};
}

Prepared prepare_lookup(std::size_t count, const KernelTable& table) {
  struct State {
    std::vector<std::uint8_t> codes;
    Operand<std::uint8_t> src, dst;
  };
  Rng rng(count);
  const auto s = std::shared_ptr<State>(new State{random_values<std::uint8_t>(rng, 256),
                                                  Operand(random_values<std::uint8_t>(rng, count)),
                                                  Operand<std::uint8_t>(count)});
  return {[=, run = table.lookup_u8] { run(s->codes.data(), s->src.data(), count, s->dst.data()); },
          [s] { return s->dst.bytes(); }};
}

}  // namespace

std::vector<Work> row_works() {
  std::vector<Work> works;
  const auto add = [&](const char* kernel, std::string shape, std::size_t bytes, auto prepare) {
    works.push_back({kernel, std::move(shape), 0, static_cast<double>(bytes), prepare});
  };
  for (const ModelShape& model : kModels) {
    const std::size_t dim = model.dim;
    const auto shape = [&](std::size_t cols) {
      return std::string(model.name) + " 197x" + std::to_string(cols);
    };
    add("layernorm_ptf", shape(dim), 2 * kTokens * dim,
        [dim](const KernelTable& table) { return prepare_layernorm<std::uint8_t>(dim, table); });
    add("layernorm_ptf", shape(dim) + " s16", 3 * kTokens * dim,
        [dim](const KernelTable& table) { return prepare_layernorm<std::int16_t>(dim, table); });
    add("gelu_table", shape(4 * dim), 3 * kTokens * 4 * dim,
        [dim](const KernelTable& table) { return prepare_gelu(kTokens * 4 * dim, table); });
    add("residual_add", shape(dim), 3 * kTokens * dim,
        [dim](const KernelTable& table) { return prepare_residual(dim, table); });
    add("add_s16", shape(dim), 6 * kTokens * dim,
        [dim](const KernelTable& table) { return prepare_add_s16(kTokens * dim, table); });
    add("lookup_u8", shape(4 * dim), 2 * kTokens * 4 * dim,
        [dim](const KernelTable& table) { return prepare_lookup(kTokens * 4 * dim, table); });
  }
  add("pixels_to_patches", "224x224x3", 2 * 224 * 224 * 3, prepare_patches);
  return works;
}

}  // namespace intaglio::bench
