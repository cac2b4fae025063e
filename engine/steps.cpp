#include "engine/steps.h"

#include <algorithm>
#include <new>
#include <optional>
#include <vector>

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

/// Exponents of a grid, zeros where it has one scale.
std::vector<std::uint8_t> exponents_of(const Grid& grid, std::size_t dim) {
  return grid.exponents.empty() ? std::vector<std::uint8_t>(dim, 0) : grid.exponents;
}

const std::uint8_t* codes(const void* buffer) {
  return static_cast<const std::uint8_t*>(buffer);
}
std::uint8_t* codes(void* buffer) {
  return static_cast<std::uint8_t*>(buffer);
}
const std::int16_t* words(const void* buffer) {
  return static_cast<const std::int16_t*>(buffer);
}

kernels::CodeType code_type(DType dtype) {
  return dtype == DType::kU8    ? kernels::CodeType::kU8
         : dtype == DType::kS16 ? kernels::CodeType::kS16
                                : kernels::CodeType::kS32;
}

/// Steps whose units are the rows of the result.
class RowStep : public Step {
 public:
  explicit RowStep(Rows rows) : rows_(rows) {}
  std::size_t units() const noexcept override { return rows_.count(); }
  void run(const Operands& operands, std::size_t begin, std::size_t end,
           std::byte*) const noexcept override {
    run_rows(operands, rows_.begin + begin, rows_.begin + end);
  }

 private:
  virtual void run_rows(const Operands& operands, std::size_t begin,
                        std::size_t end) const noexcept = 0;
  Rows rows_;
};

class PatchesStep : public RowStep {
 public:
  PatchesStep(const Graph& graph, const PatchesOp& op, const Work& work, const KernelTable& table)
      : RowStep(work.rows), kernel_(table.pixels_to_patches) {
    const auto& shape = graph.values[op.src].shape;
    params_ = {shape[0], shape[1], static_cast<std::size_t>(op.patch), op.table.data()};
  }

 private:
  void run_rows(const Operands& o, std::size_t begin, std::size_t end) const noexcept override {
    kernel_(params_, codes(o.a), o.image_stride, begin, end, codes(o.dst));
  }

  decltype(KernelTable::pixels_to_patches) kernel_;
  kernels::PatchParams params_;
};

class LookupStep : public RowStep {
 public:
  LookupStep(const Graph& graph, const LookupOp& op, const Work& work, const KernelTable& table)
      : RowStep(work.rows),
        kernel_(table.lookup_u8),
        table_(op.table.data()),
        cols_(graph.values[op.dst].shape[1]) {}

 private:
  void run_rows(const Operands& o, std::size_t begin, std::size_t end) const noexcept override {
    kernel_(table_, codes(o.a) + begin * cols_, (end - begin) * cols_,
            codes(o.dst) + begin * cols_);
  }

  decltype(KernelTable::lookup_u8) kernel_;
  const std::uint8_t* table_;
  std::size_t cols_;
};

/// The token sequence in T: prefix rows are copied, the others are the kind's own.
template <typename T>
class EmbedStep : public RowStep {
 public:
  EmbedStep(const Graph& graph, const EmbedOp& op, const Work& work)
      : RowStep(work.rows),
        dim_(graph.values[op.dst].shape[1]),
        prefix_rows_(op.prefix.shape()[0]),
        prefix_(op.prefix.view().begin(), op.prefix.view().end()),
        position_(op.position.view().begin(), op.position.view().end()) {}

 protected:
  std::size_t dim() const { return dim_; }

 private:
  void run_rows(const Operands& o, std::size_t begin, std::size_t end) const noexcept override {
    T* dst = static_cast<T*>(o.dst);
    if (begin < prefix_rows_) {
      const std::size_t stop = std::min(end, prefix_rows_);
      std::copy(prefix_.data() + begin * dim_, prefix_.data() + stop * dim_, dst + begin * dim_);
      begin = stop;
    }
    if (begin == end) return;
    const std::size_t at = (begin - prefix_rows_) * dim_;
    add(static_cast<const T*>(o.a) + at, position_.data() + at, end - begin, dst + begin * dim_);
  }
  virtual void add(const T* patches, const T* position, std::size_t rows,
                   T* dst) const noexcept = 0;

  std::size_t dim_, prefix_rows_;
  std::vector<T> prefix_, position_;
};

class EmbedCodesStep : public EmbedStep<std::uint8_t> {
 public:
  EmbedCodesStep(const Graph& graph, const EmbedOp& op, const Work& work, const KernelTable& table)
      : EmbedStep(graph, op, work), kernel_(table.residual_add) {
    const Value& dst = graph.values[op.dst];
    zeros_.assign(dim(), 0);
    exponents_ = exponents_of(dst.grid, dim());
    params_ = {.dim = dim(),
               .zero_a = graph.values[op.src].grid.zero_point,
               .multiplier_a = op.src_multiplier,
               .zero_b = op.position_zero_point,
               .multiplier_b = op.position_multiplier,
               .exponents_b = zeros_.data(),
               .exponents_dst = exponents_.data(),
               .shift = op.shift,
               .zero_point = dst.grid.zero_point};
  }

 private:
  void add(const std::uint8_t* patches, const std::uint8_t* position, std::size_t rows,
           std::uint8_t* dst) const noexcept override {
    kernel_(params_, patches, position, rows, dst);
  }

  decltype(KernelTable::residual_add) kernel_;
  std::vector<std::uint8_t> zeros_, exponents_;
  kernels::ResidualParams params_;
};

class EmbedWordsStep : public EmbedStep<std::int16_t> {
 public:
  EmbedWordsStep(const Graph& graph, const EmbedOp& op, const Work& work, const KernelTable& table)
      : EmbedStep(graph, op, work), kernel_(table.add_s16) {}

 private:
  void add(const std::int16_t* patches, const std::int16_t* position, std::size_t rows,
           std::int16_t* dst) const noexcept override {
    kernel_(patches, position, rows * dim(), dst);
  }

  decltype(KernelTable::add_s16) kernel_;
};

class LayerNormStep : public RowStep {
 public:
  LayerNormStep(const Graph& graph, const LayerNormOp& op, const Work& work,
                const KernelTable& table)
      : RowStep(work.rows), kernel_(table.layernorm_ptf) {
    const Value& src = graph.values[op.src];
    exponents_ = exponents_of(src.grid, src.shape[1]);
    row_bytes_ = src.shape[1] * dtype_size(src.dtype);
    params_ = {.dim = src.shape[1],
               .src_type = code_type(src.dtype),
               .zero_src = src.grid.zero_point,
               .exponents = exponents_.data(),
               .multiplier = op.multiplier.data(),
               .bias = op.bias.data(),
               .shift = op.shift,
               .zero_point = graph.values[op.dst].grid.zero_point};
  }

 private:
  void run_rows(const Operands& o, std::size_t begin, std::size_t end) const noexcept override {
    kernel_(params_, static_cast<const std::byte*>(o.a) + begin * row_bytes_, end - begin,
            codes(o.dst) + begin * params_.dim);
  }

  decltype(KernelTable::layernorm_ptf) kernel_;
  std::size_t row_bytes_;
  std::vector<std::uint8_t> exponents_;
  kernels::LayerNormParams params_;
};

kernels::GeluParams gelu_params(const Graph& graph, const GeluOp& op) {
  const Value& dst = graph.values[op.dst];
  const auto& exponents = dst.grid.exponents;
  return {.multiplier = op.multiplier,
          .shift = op.shift,
          .segment_bits = op.segment_bits,
          .base = op.base.data(),
          .slope = op.slope.data(),
          .zero_point = dst.grid.zero_point,
          .exponents = exponents.empty() ? nullptr : exponents.data(),
          .dim = dst.shape[1]};
}

/// A residual addition's parameters and the exponents they point to.
struct Addition {
  Addition(const Graph& graph, const ResidualAddOp& op) {
    const Value& b = graph.values[op.b];
    const Value& dst = graph.values[op.dst];
    exponents_b = exponents_of(b.grid, dst.shape[1]);
    exponents_dst = exponents_of(dst.grid, dst.shape[1]);
    params = {.dim = dst.shape[1],
              .zero_a = graph.values[op.a].grid.zero_point,
              .multiplier_a = op.multiplier_a,
              .zero_b = b.grid.zero_point,
              .multiplier_b = op.multiplier_b,
              .exponents_b = exponents_b.data(),
              .exponents_dst = exponents_dst.data(),
              .shift = op.shift,
              .zero_point = dst.grid.zero_point};
  }
  std::vector<std::uint8_t> exponents_b, exponents_dst;
  kernels::ResidualParams params;
};

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
               .output = code_type(dst.dtype)};
    if (op.residual) add_sums(graph, op);
    if (work.fused != nullptr) fuse(graph, *work.fused);
  }
  std::size_t packed_bytes() const noexcept override { return packed_bytes_; }
  const std::byte* packed_from() const noexcept override {
    return reinterpret_cast<const std::byte*>(weight_);
  }
  void pack(std::byte* memory) noexcept override {
    pack_(weight_, params_.n, params_.k, memory);
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
    params_.epilogue = kernels::GemmEpilogue::kAddSums;
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

/// Units are blocks of rows within heads: nothing larger than a few rows of scores is ever stored.
class AttentionStep : public Step {
 public:
  AttentionStep(const Graph& graph, const AttentionOp& op, const Work& work,
                const KernelTable& table)
      : kernel_(table.attention),
        prepared_(kernels::kSoftmaxTableBytes),
        rows_(work.rows),
        dim_(graph.values[op.dst].shape[1]),
        heads_(static_cast<std::size_t>(op.heads)),
        blocks_((rows_.count() + kRowsPerBlock - 1) / kRowsPerBlock) {
    const Value& src = graph.values[op.src];
    const std::int32_t zero_src = src.grid.zero_point;
    params_ = {.tokens = src.shape[0],
               .head_dim = dim_ / heads_,
               .src_stride = 3 * dim_,
               .dst_stride = dim_,
               .scores = {zero_src, op.score_multiplier, op.score_shift, op.score_zero_point},
               .softmax = {.form = op.form,
                           .exponentials = op.exponentials.data(),
                           .codes = op.codes.data(),
                           .zero_code = static_cast<std::uint8_t>(op.zero_code),
                           .unit_bits = op.unit_bits,
                           .weights = op.weights.size() == 0 ? nullptr : op.weights.data(),
                           .probability_factor = op.probability_factor.size() == 0
                                                     ? std::uint64_t{0}
                                                     : op.probability_factor[0]},
               .attend = {zero_src, op.attend_multiplier, op.attend_shift,
                          graph.values[op.dst].grid.zero_point},
               .prepared = prepared_.data()};
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
      kernel_(params_, q + row * params_.src_stride, rows, q + dim_, q + 2 * dim_, scratch,
              codes(o.dst) + row * dim_ + head * params_.head_dim);
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

class GeluStep : public RowStep {
 public:
  GeluStep(const Graph& graph, const GeluOp& op, const Work& work, const KernelTable& table)
      : RowStep(work.rows), kernel_(table.gelu_table), params_(gelu_params(graph, op)) {}

 private:
  void run_rows(const Operands& o, std::size_t begin, std::size_t end) const noexcept override {
    const std::size_t at = begin * params_.dim;
    kernel_(params_, words(o.a) + at, end - begin, codes(o.dst) + at);
  }

  decltype(KernelTable::gelu_table) kernel_;
  kernels::GeluParams params_;
};

class ResidualAddStep : public RowStep {
 public:
  ResidualAddStep(const Graph& graph, const ResidualAddOp& op, const Work& work,
                  const KernelTable& table)
      : RowStep(work.rows), kernel_(table.residual_add), addition_(graph, op) {}

 private:
  void run_rows(const Operands& o, std::size_t begin, std::size_t end) const noexcept override {
    const std::size_t at = begin * addition_.params.dim;
    kernel_(addition_.params, codes(o.a) + at, codes(o.b) + at, end - begin, codes(o.dst) + at);
  }

  decltype(KernelTable::residual_add) kernel_;
  Addition addition_;
};

/// Which step executes which operation.
struct MakeStep {
  const Graph& graph;
  const Work& work;
  const KernelTable& table;

  std::unique_ptr<Step> operator()(const PatchesOp& op) const { return make<PatchesStep>(op); }
  std::unique_ptr<Step> operator()(const LookupOp& op) const { return make<LookupStep>(op); }
  std::unique_ptr<Step> operator()(const EmbedOp& op) const {
    if (graph.values[op.dst].dtype == DType::kS16) return make<EmbedWordsStep>(op);
    return make<EmbedCodesStep>(op);
  }
  std::unique_ptr<Step> operator()(const LayerNormOp& op) const { return make<LayerNormStep>(op); }
  std::unique_ptr<Step> operator()(const LinearOp& op) const { return make<LinearStep>(op); }
  std::unique_ptr<Step> operator()(const AttentionOp& op) const { return make<AttentionStep>(op); }
  std::unique_ptr<Step> operator()(const GeluOp& op) const { return make<GeluStep>(op); }
  std::unique_ptr<Step> operator()(const ResidualAddOp& op) const {
    return make<ResidualAddStep>(op);
  }
  std::unique_ptr<Step> operator()(const SelectRowsOp&) const { return nullptr; }
  std::unique_ptr<Step> operator()(const MeanRowsOp&) const { return nullptr; }

  template <typename StepT, typename OpT>
  std::unique_ptr<Step> make(const OpT& op) const {
    return std::make_unique<StepT>(graph, op, work, table);
  }
};

}  // namespace

std::unique_ptr<Step> make_step(const Graph& graph, const Work& work,
                                const kernels::KernelTable& table) {
  return std::visit(MakeStep{graph, work, table}, work.op->params);
}

std::unique_ptr<Step> make_step(const Graph& graph, const Op& op,
                                const kernels::KernelTable& table) {
  Work work;
  work.op = &op;
  work.rows = {0, graph.values[result_of(op)].shape[0]};
  return make_step(graph, work, table);
}

}  // namespace intaglio
