// One head of attention in each model: q, k and v are columns of the qkv matrix.
#include <cmath>

#include "bench/kernels/entries.h"
#include "bench/kernels/operands.h"

namespace intaglio::bench {
namespace {

constexpr double kHeadMacs = static_cast<double>(kTokens * kTokens * kHeadDim);

Prepared prepare_scores(std::size_t dim, const kernels::KernelTable& table) {
  struct State {
    Operand<std::uint8_t> qkv, dst;
  };
  test::Rng rng(dim);
  const auto s =
      std::shared_ptr<State>(new State{Operand(random_values<std::uint8_t>(rng, kTokens * 3 * dim)),
                                       Operand<std::uint8_t>(kTokens * kTokens)});
  // Products are about 74 * 74, 64 of them sum to 2^15.4; onto 40 codes.
  const kernels::ScoreParams params = {128, (1 << 29) + 12345678, 29 + 10, 128};
  return {[=, run = table.attention_scores] {
            run(params, s->qkv.data(), kTokens, s->qkv.data() + dim, kTokens, kHeadDim, 3 * dim,
                s->dst.data());
          },
          [s] { return s->dst.bytes(); }};
}

Prepared prepare_attend(std::size_t dim, const kernels::KernelTable& table) {
  struct State {
    Operand<std::uint8_t> codes, qkv, dst;
  };
  test::Rng rng(dim);
  const auto s = std::shared_ptr<State>(
      new State{Operand(random_values<std::uint8_t>(rng, kTokens * kTokens, 4, kernels::kZeroCode)),
                Operand(random_values<std::uint8_t>(rng, kTokens * 3 * dim)),
                Operand<std::uint8_t>(kTokens * dim)});
  const kernels::AttendParams params = {128, kernels::kZeroCode, (1 << 29) + 12345678, 29 + 18,
                                        128};
  // dst holds all heads' columns; this head's are written, the others stay as the buffer was made.
  return {[=, run = table.attend_log2] {
            run(params, s->codes.data(), kTokens, s->qkv.data() + 2 * dim, kTokens, kHeadDim,
                3 * dim, s->dst.data(), dim);
          },
          [s] { return s->dst.bytes(); }};
}

Prepared prepare_softmax(const kernels::KernelTable& table) {
  struct State {
    std::vector<std::uint64_t> exponentials;
    Operand<std::uint8_t> src, dst;
  };
  std::vector<std::uint64_t> exponentials(256);
  for (std::size_t d = 0; d < 256; ++d) {
    exponentials[d] =
        static_cast<std::uint64_t>(std::floor(std::exp(-0.05 * static_cast<double>(d)) * 0x1p30));
  }
  test::Rng rng(kTokens);
  const auto s = std::shared_ptr<State>(
      new State{exponentials, Operand(random_values<std::uint8_t>(rng, kTokens * kTokens)),
                Operand<std::uint8_t>(kTokens * kTokens)});
  return {[=, run = table.softmax_log2] {
            run({s->exponentials.data()}, s->src.data(), kTokens, kTokens, s->dst.data());
          },
          [s] { return s->dst.bytes(); }};
}

}  // namespace

std::vector<Work> attention_works() {
  std::vector<Work> works;
  for (const auto& [model, dim] : kModels) {
    const std::string shape = std::string(model) + " head 197x197x64";
    works.push_back({"attention_scores", shape, kHeadMacs, 0,
                     [dim = dim](const auto& table) { return prepare_scores(dim, table); }});
    works.push_back({"attend_log2", shape, kHeadMacs, 0,
                     [dim = dim](const auto& table) { return prepare_attend(dim, table); }});
  }
  works.push_back({"softmax_log2", "head 197x197", 0, 2.0 * kTokens * kTokens, prepare_softmax});
  return works;
}

}  // namespace intaglio::bench
