#include <algorithm>
#include <new>

#include "engine/step_parts.h"
#include "engine/windows.h"
#include "kernels/cpu.h"

namespace intaglio {
namespace {

using kernels::KernelTable;

/// 64-byte aligned memory for prepared constants.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::size_t size)
      : data_(static_cast<std::byte*>(::operator new(size, kAlignment))) {}
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  ~AlignedBytes() { ::operator delete(data_, kAlignment); }
  std::byte* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  std::byte* data_;
};

/// Those of all tokens, or of a whole window.
kernels::AttentionParams attention_params(const Graph& graph, const AttentionOp& op,
                                          const std::byte* prepared) {
  const Value& src = graph.values[op.src];
  const Value& dst = graph.values[op.dst];
  const std::int32_t zero_src = src.grid.zero_point;
  const auto window = static_cast<std::size_t>(op.window);
  const std::size_t dim = channels_of(dst);
  return {.tokens = window == 0 ? rows_of(src) : window * window,
          .head_dim = dim / static_cast<std::size_t>(op.heads),
          .src_stride = 3 * dim,
          .dst_stride = dim,
          .scores = {zero_src, op.score_multiplier, op.score_shift, op.score_zero_point},
          .bias = {.side = op.bias.size() == 0 ? 0 : 2 * window - 1,
                   .width = window,
                   .multiplier = op.bias_multiplier,
                   .shift = op.bias_shift,
                   .zero_point = op.bias_zero_point},
          .softmax = {.form = op.form,
                      .exponentials = op.exponentials.data(),
                      .codes = op.codes.data(),
                      .zero_code = static_cast<std::uint8_t>(op.zero_code),
                      .unit_bits = op.unit_bits,
                      .weights = op.weights.size() == 0 ? nullptr : op.weights.data(),
                      .probability_factor = op.probability_factor.size() == 0
                                                ? std::uint64_t{0}
                                                : op.probability_factor[0]},
          .attend = {zero_src, op.attend_multiplier, op.attend_shift, dst.grid.zero_point},
          .prepared = prepared,
          .interleave = kernels::prefers_interleaving()};
}

/// Units are blocks of rows within heads: nothing larger than a few rows of scores is ever stored.
class AttentionStep : public Step {
 public:
  AttentionStep(const Graph& graph, const AttentionOp& op, const Work& work,
                const KernelTable& table)
      : kernel_(table.attention),
        prepared_(kernels::kSoftmaxTableBytes),
        rows_(work.rows),
        dim_(channels_of(graph.values[op.dst])),
        heads_(static_cast<std::size_t>(op.heads)),
        blocks_((rows_.count() + kRowsPerBlock - 1) / kRowsPerBlock) {
    params_ = attention_params(graph, op, prepared_.data());
    table.softmax_prepare(params_.softmax, prepared_.data());
    scratch_bytes_ = table.attention_scratch_bytes(params_);
  }
  std::size_t units() const noexcept override { return heads_ * blocks_; }
  std::size_t scratch_bytes() const noexcept override { return scratch_bytes_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte* scratch) const noexcept override {
    while (begin < end) {  // the units of one head are one call: it lays out keys and values once
      const std::size_t head = begin / blocks_;
      const std::size_t stop = std::min(end, (head + 1) * blocks_);
      const std::size_t row = rows_.begin + begin % blocks_ * kRowsPerBlock;
      const std::size_t rows = std::min((stop - begin) * kRowsPerBlock, rows_.end - row);
      const std::uint8_t* q = codes(o.a) + head * params_.head_dim;
      const kernels::AttentionOperands operands = {
          .q = q + row * params_.src_stride,
          .k = q + dim_,
          .v = q + 2 * dim_,
          .dst = codes(o.dst) + row * dim_ + head * params_.head_dim};
      kernel_(params_, operands, rows, scratch);
      begin = stop;
    }
  }

 private:
  static constexpr std::size_t kRowsPerBlock = 48;  // whole tiles

  decltype(KernelTable::attention) kernel_;
  AlignedBytes prepared_;
  Rows rows_;
  std::size_t dim_, heads_, blocks_;
  std::size_t scratch_bytes_ = 0;
  kernels::AttentionParams params_;
};

/// The bias tables of all heads as strips for pieces `width` tokens wide (kernels::BiasParams).
std::vector<std::int32_t> bias_strips(const AttentionOp& op, std::size_t width) {
  const auto heads = static_cast<std::size_t>(op.heads);
  const std::size_t side = op.bias.shape()[1];
  std::vector<std::int32_t> strips;
  strips.reserve(heads * (width * side * width + kernels::kBiasPadding));
  for (std::size_t head = 0; head < heads; ++head) {
    for (std::size_t query = 0; query < width; ++query) {
      for (std::size_t dy = side; dy-- > 0;) {  // of the query less that of the key
        const std::int32_t* row = op.bias.data() + (head * side + dy) * side + side / 2 + query;
        for (std::size_t key = 0; key < width; ++key) strips.push_back(row[-std::ptrdiff_t(key)]);
      }
    }
    strips.resize(strips.size() + kernels::kBiasPadding);
  }
  return strips;
}

/// Units are heads of pieces: the heads of a piece are neighbours, as their rows are the same.
class WindowAttentionStep : public Step {
 public:
  WindowAttentionStep(const Graph& graph, const AttentionOp& op, const KernelTable& table)
      : kernel_(table.attention),
        prepared_(kernels::kSoftmaxTableBytes),
        heads_(static_cast<std::size_t>(op.heads)),
        padding_(op.padding.data()) {
    const auto& map = graph.values[op.dst].shape;
    windows_ = cut_windows(map[0], map[1], static_cast<std::size_t>(op.window),
                           static_cast<std::size_t>(op.window_shift));
    const kernels::AttentionParams params = attention_params(graph, op, prepared_.data());
    table.softmax_prepare(params.softmax, prepared_.data());
    for (const WindowShape& shape : windows_.shapes) {
      Shape prepared = {params, {}};
      prepared.params.tokens = shape.height * shape.width;
      prepared.params.bias.width = shape.width;
      if (params.bias.side != 0) prepared.strips = bias_strips(op, shape.width);
      scratch_bytes_ = std::max(scratch_bytes_, table.attention_scratch_bytes(prepared.params));
      shapes_.push_back(std::move(prepared));
    }
  }
  std::size_t units() const noexcept override { return windows_.pieces.size() * heads_; }
  std::size_t scratch_bytes() const noexcept override { return scratch_bytes_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte* scratch) const noexcept override {
    for (std::size_t unit = begin; unit < end; ++unit) {
      const WindowPiece& piece = windows_.pieces[unit / heads_];
      const Shape& shape = shapes_[piece.shape];
      const kernels::AttentionParams& p = shape.params;
      const std::size_t head = unit % heads_;
      const std::size_t dim = p.dst_stride;
      const std::size_t column = head * p.head_dim;
      const std::uint8_t* q = codes(o.a) + column;
      kernels::AttentionOperands operands = {
          .q = q,
          .k = q + dim,
          .v = q + 2 * dim,
          .dst = codes(o.dst) + column,
          .token_rows = windows_.token_rows.data() + piece.first};
      if (padding_ != nullptr) {
        operands.padding_key = padding_ + dim + column;
        operands.padding_value = padding_ + 2 * dim + column;
      }
      if (p.bias.side != 0) {
        operands.bias = shape.strips.data() + head * (shape.strips.size() / heads_);
      }
      kernel_(p, operands, p.tokens, scratch);
    }
  }

 private:
  /// What pieces of one shape share.
  struct Shape {
    kernels::AttentionParams params;
    std::vector<std::int32_t> strips;  ///< [heads, ...]
  };

  decltype(KernelTable::attention) kernel_;
  AlignedBytes prepared_;
  std::size_t heads_;
  const std::uint8_t* padding_;
  Windows windows_;
  std::vector<Shape> shapes_;
  std::size_t scratch_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Step> make_attention_step(const Graph& graph, const AttentionOp& op,
                                          const Work& work, const KernelTable& table) {
  if (op.window != 0) return std::make_unique<WindowAttentionStep>(graph, op, table);
  return std::make_unique<AttentionStep>(graph, op, work, table);
}

}  // namespace intaglio
