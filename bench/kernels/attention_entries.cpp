// One head of attention in each model, with every form of the softmax and both forms of P v: q, k
// and v are columns of the qkv matrix, the result is columns of the heads' matrix.
#include "bench/kernels/entries.h"
#include "bench/kernels/lowered.h"
#include "bench/kernels/operands.h"

namespace intaglio::bench {
namespace {

using kernels::SoftmaxForm;

constexpr double kHeadMacs = 2.0 * kTokens * kTokens * kHeadDim;

struct Head {
  Softmax softmax;
  Operand<std::uint8_t> qkv, dst;
  Operand<std::byte> prepared, scratch;
  kernels::AttentionParams params;

  Head(SoftmaxForm form, std::size_t dim, const kernels::KernelTable& table)
      : softmax(form, kTokens), dst(kTokens * dim), prepared(kernels::kSoftmaxTableBytes) {
    Rng rng(dim);
    qkv = Operand(random_values<std::uint8_t>(rng, kTokens * 3 * dim));
    constexpr std::int32_t kMultiplier = (1 << 29) + 12345678;
    params = {.tokens = kTokens,
              .head_dim = kHeadDim,
              .src_stride = 3 * dim,
              .dst_stride = dim,
              // Products are about 74 * 74, 64 of them sum to 2^15.4; onto 40 codes.
              .scores = {128, kMultiplier, 29 + 10, 128},
              .softmax = softmax.params(),
              // The mean of some 70 values is about 9; onto 40 codes. Weights sum to 2^15, or 2^9.
              .attend = {128, kMultiplier, 29 + (form == SoftmaxForm::kUniform ? 9 : 15) - 2, 128},
              .prepared = prepared.data()};
    table.softmax_prepare(params.softmax, prepared.data());
    scratch = Operand<std::byte>(table.attention_scratch_bytes(params));
  }
};

Prepared prepare_head(SoftmaxForm form, std::size_t dim, const kernels::KernelTable& table,
                      bool bitshift) {
  const auto head = std::make_shared<Head>(form, dim, table);
  return {[head, dim, run = bitshift ? table.attention_bitshift : table.attention] {
            const std::uint8_t* q = head->qkv.data();
            const kernels::AttentionOperands operands = {
                .q = q, .k = q + dim, .v = q + 2 * dim, .dst = head->dst.data()};
            run(head->params, operands, kTokens, head->scratch.data());
          },
          [head] { return head->dst.bytes(); }};
}

const char* name_of(SoftmaxForm form) {
  return form == SoftmaxForm::kLogInt        ? " log_int"
         : form == SoftmaxForm::kRowRelative ? " row_relative"
                                             : " uniform";
}

}  // namespace

std::vector<Work> attention_works() {
  std::vector<Work> works;
  for (const auto& [model, width] : kModels) {
    for (const SoftmaxForm form :
         {SoftmaxForm::kLogInt, SoftmaxForm::kRowRelative, SoftmaxForm::kUniform}) {
      for (const bool bitshift : {false, true}) {
        if (bitshift && form == SoftmaxForm::kUniform) continue;
        works.push_back({bitshift ? "attention_bitshift" : "attention",
                         std::string(model) + " head 197x197x64" + name_of(form), kHeadMacs, 0,
                         [form, dim = width, bitshift](const kernels::KernelTable& table) {
                           return prepare_head(form, dim, table, bitshift);
                         }});
      }
    }
  }
  return works;
}

}  // namespace intaglio::bench
