#include <algorithm>
#include <optional>

#include "engine/step_parts.h"
#include "kernels/cpu.h"

namespace intaglio {
namespace {

using kernels::KernelTable;

/// Units are blocks of rows times groups of columns. Of small weights, the groups of one block are
/// neighbours: threads split the rows, and find those of the step before in their own caches. Of
/// large ones, the blocks of one group are: threads split the weights.
class LinearStep : public Step {
 public:
  LinearStep(const Graph& graph, const LinearOp& op, const Work& work, const KernelTable& table)
      : kernel_(table.gemm_u8s8),
        pack_(table.gemm_pack),
        weight_(op.weight.data()),
        packed_bytes_(table.gemm_packed_bytes(op.weight.shape()[0], op.weight.shape()[1])),
        rows_(work.rows),
        narrow_columns_(work.narrow_columns / kernels::kColumnStep * kernels::kColumnStep),
        narrow_rows_(work.narrow_rows),
        blocks_((rows_.count() + kRowsPerBlock - 1) / kRowsPerBlock),
        groups_((op.weight.shape()[0] + kernels::kColumnStep - 1) / kernels::kColumnStep),
        split_rows_(packed_bytes_ <= kSmallWeights) {
    const Value& dst = graph.values[op.dst];
    params_ = {.n = op.weight.shape()[0],
               .k = op.weight.shape()[1],
               .multiplier = op.multiplier.data(),
               .bias = op.bias.data(),
               .shift = op.shift,
               .zero_point = dst.grid.zero_point,
               .output = code_type(dst.dtype),
               .interleave = kernels::prefers_interleaving()};
    if (op.residual) add_sums(graph, op);
    if (work.fused != nullptr) fuse(graph, *work.fused);
  }
  std::size_t packed_bytes() const noexcept override { return packed_bytes_; }
  const std::byte* packed_from() const noexcept override {
    return reinterpret_cast<const std::byte*>(weight_);
  }
  void pack(std::byte* memory) noexcept override {
    pack_(weight_, params_.n, params_.k, memory);
    use_packed(memory);
  }
  void use_packed(const std::byte* memory) noexcept override {
    params_.packed = memory;
    weight_ = nullptr;
  }
  std::size_t units() const noexcept override { return groups_ * blocks_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte*) const noexcept override {
    const std::size_t inner = split_rows_ ? groups_ : blocks_;
    while (begin < end) {  // as many units as one call can do: whole outer ones, or a part of one
      const std::size_t outer = begin / inner;
      const std::size_t first = begin % inner;
      const std::size_t whole = first == 0 ? (end - begin) / inner : 0;
      const std::size_t stop =
          whole != 0 ? begin + whole * inner : std::min(end, (outer + 1) * inner);
      const Range outside = {outer, outer + std::max<std::size_t>(whole, 1)};
      const Range inside = {first, whole != 0 ? inner : first + (stop - begin)};
      const Range blocks = split_rows_ ? outside : inside;
      const Range groups = split_rows_ ? inside : outside;
      multiply(o,
               {rows_.begin + blocks.begin * kRowsPerBlock,
                std::min(rows_.end, rows_.begin + blocks.end * kRowsPerBlock)},
               {groups.begin * kernels::kColumnStep,
                std::min(params_.n, groups.end * kernels::kColumnStep)});
      begin = stop;
    }
  }

 private:
  struct Range {
    std::size_t begin, end;
  };
  static constexpr std::size_t kRowsPerBlock = 24;                      // whole tiles
  static constexpr std::size_t kSmallWeights = std::size_t{640} << 10;  // of a second-level cache

  void add_sums(const Graph& graph, const LinearOp& op) {
    const Value& residual = graph.values[*op.residual];
    const bool words = op.residual_multiplier.size() == 0;
    params_.epilogue = words ? kernels::GemmEpilogue::kAddWords : kernels::GemmEpilogue::kAddSums;
    params_.residual_multiplier = op.residual_multiplier.data();
    params_.residual_type = code_type(residual.dtype);
    params_.residual_zero = residual.grid.zero_point;
    residual_bytes_ = dtype_size(residual.dtype);
  }
  void fuse(const Graph& graph, const Op& op) {
    if (const auto* gelu = std::get_if<GeluOp>(&op.params)) {
      gelu_ = gelu_params(graph, *gelu);
      params_.epilogue = kernels::GemmEpilogue::kGelu;
      params_.gelu = &gelu_;
    } else {
      addition_.emplace(graph, std::get<ResidualAddOp>(op.params));
      params_.epilogue = kernels::GemmEpilogue::kAddCodes;
      params_.add = &addition_->params;
    }
  }
  void multiply(const Operands& o, Rows rows, kernels::ColumnRange columns) const noexcept {
    if (columns.first < narrow_columns_) {
      const kernels::ColumnRange narrow = {columns.first, std::min(columns.last, narrow_columns_)};
      const Rows common = {std::max(rows.begin, narrow_rows_.begin),
                           std::min(rows.end, narrow_rows_.end)};
      if (common.begin < common.end) multiply_all(o, common, narrow);
      columns.first = narrow.last;
    }
    if (columns.first < columns.last) multiply_all(o, rows, columns);
  }
  void multiply_all(const Operands& o, Rows rows, kernels::ColumnRange columns) const noexcept {
    const std::size_t at = rows.begin * params_.n;
    const auto* residual = static_cast<const std::byte*>(o.b);
    kernel_(params_, columns, codes(o.a) + rows.begin * params_.k, params_.k, rows.count(),
            residual == nullptr ? nullptr : residual + at * residual_bytes_,
            static_cast<std::byte*>(o.dst) + at * kernels::stored_bytes(params_), params_.n);
  }

  decltype(KernelTable::gemm_u8s8) kernel_;
  decltype(KernelTable::gemm_pack) pack_;
  const std::int8_t* weight_;  // until it is packed
  std::size_t packed_bytes_;
  Rows rows_;
  std::size_t narrow_columns_;
  Rows narrow_rows_;
  std::size_t blocks_, groups_;
  bool split_rows_;
  std::size_t residual_bytes_ = 1;
  kernels::GeluParams gelu_;
  std::optional<Addition> addition_;
  kernels::GemmParams params_;
};

}  // namespace

std::unique_ptr<Step> make_linear_step(const Graph& graph, const LinearOp& op, const Work& work,
                                       const kernels::KernelTable& table) {
  return std::make_unique<LinearStep>(graph, op, work, table);
}

}  // namespace intaglio
