// Attention with every form of the softmax. One head in each model, with both forms of P v: q, k
// and v are columns of the qkv matrix, the result is columns of the heads' matrix. And windows of 7
// x 7 tokens of a map, with a relative position bias: one head of one, and all of a stage.
#include <fmt/core.h>

#include "bench/kernels/entries.h"
#include "bench/kernels/lowered.h"
#include "bench/kernels/operands.h"
#include "kernels/cpu.h"

namespace intaglio::bench {
namespace {

using kernels::KernelTable;
using kernels::SoftmaxForm;

constexpr double kHeadMacs = 2.0 * kTokens * kTokens * kHeadDim;
constexpr std::size_t kArea = kWindow * kWindow;
constexpr double kWindowMacs = 2.0 * kArea * kArea * kSwinHeadDim;

/// Everything that a table needs for the heads of a matrix.
struct Heads {
  Softmax softmax;
  Operand<std::uint8_t> qkv, dst;
  Operand<std::byte> prepared, scratch;
  kernels::AttentionParams params;

  /// Each token attends to `tokens` of the model's.
  Heads(SoftmaxForm form, const ModelShape& model, std::size_t tokens, std::size_t head_dim,
        const kernels::BiasParams& bias, const KernelTable& table)
      : softmax(form, tokens),
        dst(model.tokens * model.dim),
        prepared(kernels::kSoftmaxTableBytes) {
    Rng rng(model.dim);
    qkv = Operand(random_values<std::uint8_t>(rng, model.tokens * 3 * model.dim));
    constexpr std::int32_t kMultiplier = (1 << 29) + 12345678;
    params = {.tokens = tokens,
              .head_dim = head_dim,
              .src_stride = 3 * model.dim,
              .dst_stride = model.dim,
              // Products are about 74 * 74, 64 of them sum to 2^15.4; onto 40 codes.
              .scores = {128, kMultiplier, 29 + 10, 128},
              .bias = bias,
              .softmax = softmax.params(),
              // The mean of some 70 values is about 9; onto 40 codes. Weights sum to 2^15, or 2^9.
              .attend = {128, kMultiplier, 29 + (form == SoftmaxForm::kUniform ? 9 : 15) - 2, 128},
              .prepared = prepared.data(),
              .interleave = kernels::prefers_interleaving()};
    table.softmax_prepare(params.softmax, prepared.data());
    scratch = Operand<std::byte>(table.attention_scratch_bytes(params));
  }

  /// Of head `head`.
  kernels::AttentionOperands operands(std::size_t head) {
    const std::uint8_t* q = qkv.data() + head * params.head_dim;
    const std::size_t dim = params.dst_stride;
    return {.q = q, .k = q + dim, .v = q + 2 * dim, .dst = dst.data() + head * params.head_dim};
  }
};

Prepared prepare_head(SoftmaxForm form, const ModelShape& model, const KernelTable& table,
                      bool bitshift) {
  const auto head =
      std::make_shared<Heads>(form, model, kTokens, kHeadDim, kernels::BiasParams{}, table);
  return {[head, run = bitshift ? table.attention_bitshift : table.attention] {
            run(head->params, head->operands(0), kTokens, head->scratch.data());
          },
          [head] { return head->dst.bytes(); }};
}

constexpr std::size_t kBiasSide = 2 * kWindow - 1;
constexpr std::size_t kStrips = kWindow * kBiasSide * kWindow + kernels::kBiasPadding;

/// The paper's bias is added to codes of scores of nearly the same scale, others' to their sums.
kernels::BiasParams bias_params(SoftmaxForm form) {
  if (form != SoftmaxForm::kLogInt) return {.side = kBiasSide, .width = kWindow};
  return {.side = kBiasSide,
          .width = kWindow,
          .multiplier = (1 << 20) - 123456,
          .shift = 20,
          .zero_point = 128};
}

/// Windows of a stage's map.
struct Windows : Heads {
  std::vector<std::uint32_t> rows;   // [windows, kArea]
  std::vector<std::int32_t> strips;  // [heads, kStrips]

  Windows(SoftmaxForm form, const ModelShape& stage, const KernelTable& table)
      : Heads(form, stage, kArea, kSwinHeadDim, bias_params(form), table) {
    std::size_t side = kWindow;
    while (side * side < stage.tokens) side *= 2;
    for (std::size_t first = 0; first < stage.tokens; first += kWindow * side) {
      for (std::size_t column = 0; column < side; column += kWindow) {
        for (std::size_t t = 0; t < kArea; ++t) {
          const std::size_t row = first + t / kWindow * side + column + t % kWindow;
          rows.push_back(static_cast<std::uint32_t>(row));
        }
      }
    }
    // As scores: up to 40 codes, or as large as sums are.
    const std::int64_t largest = form == SoftmaxForm::kLogInt ? 40 << 20 : 1 << 15;
    Rng rng(stage.dim);
    strips =
        random_values<std::int32_t>(rng, stage.dim / kSwinHeadDim * kStrips, -largest, largest);
  }
};

/// The first `windows` windows and `heads` heads.
Prepared prepare_windows(SoftmaxForm form, const ModelShape& stage, std::size_t windows,
                         std::size_t heads, const KernelTable& table) {
  const auto map = std::make_shared<Windows>(form, stage, table);
  return {[=, run = table.attention] {
            for (std::size_t w = 0; w < windows; ++w) {
              for (std::size_t head = 0; head < heads; ++head) {
                kernels::AttentionOperands operands = map->operands(head);
                operands.token_rows = map->rows.data() + w * kArea;
                operands.bias = map->strips.data() + head * kStrips;
                run(map->params, operands, kArea, map->scratch.data());
              }
            }
          },
          [map] { return map->dst.bytes(); }};
}

constexpr SoftmaxForm kForms[] = {SoftmaxForm::kLogInt, SoftmaxForm::kRowRelative,
                                  SoftmaxForm::kUniform};

const char* name_of(SoftmaxForm form) {
  return form == SoftmaxForm::kLogInt        ? " log_int"
         : form == SoftmaxForm::kRowRelative ? " row_relative"
                                             : " uniform";
}

}  // namespace

std::vector<Work> attention_works() {
  std::vector<Work> works;
  for (const ModelShape& model : kModels) {
    for (const SoftmaxForm form : kForms) {
      for (const bool bitshift : {false, true}) {
        if (bitshift && form == SoftmaxForm::kUniform) continue;
        works.push_back(
            {bitshift ? "attention_bitshift" : "attention",
             std::string(model.name) + " head 197x197x64" + name_of(form), kHeadMacs, 0,
             [=](const KernelTable& table) { return prepare_head(form, model, table, bitshift); }});
      }
    }
  }
  for (const ModelShape& stage : kSwinStages) {
    const std::size_t windows = stage.tokens / kArea;
    const std::size_t heads = stage.dim / kSwinHeadDim;
    const auto add = [&](const std::string& what, SoftmaxForm form, std::size_t w, std::size_t h) {
      works.push_back({"attention_windows", std::string(stage.name) + what + name_of(form),
                       kWindowMacs * static_cast<double>(w * h), 0, [=](const KernelTable& table) {
                         return prepare_windows(form, stage, w, h, table);
                       }});
    };
    for (const SoftmaxForm form : kForms) {
      add(" head 49x49x32", form, 1, 1);
      add(fmt::format(" {} x 49x49x32", windows * heads), form, windows, heads);
    }
  }
  return works;
}

}  // namespace intaglio::bench
