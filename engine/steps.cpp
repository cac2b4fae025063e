#include "engine/steps.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

namespace intaglio {
namespace {

using kernels::KernelTable;

/// 64-byte aligned memory for packed weights.
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

class PatchesStep : public Step {
 public:
  PatchesStep(const Graph& graph, const PatchesOp& op, const KernelTable& table)
      : kernel_(table.pixels_to_patches), units_(graph.values[op.dst].shape[0]) {
    const auto& shape = graph.values[op.src].shape;
    params_ = {shape[0], shape[1], static_cast<std::size_t>(op.patch), op.table.data()};
  }
  std::size_t units() const noexcept override { return units_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte*) const noexcept override {
    kernel_(params_, codes(o.a), o.image_stride, begin, end, codes(o.dst));
  }

 private:
  decltype(KernelTable::pixels_to_patches) kernel_;
  std::size_t units_;
  kernels::PatchParams params_;
};

class LookupStep : public Step {
 public:
  LookupStep(const Graph& graph, const LookupOp& op, const KernelTable& table)
      : kernel_(table.lookup_u8),
        table_(op.table.data()),
        rows_(graph.values[op.dst].shape[0]),
        cols_(graph.values[op.dst].shape[1]) {}
  std::size_t units() const noexcept override { return rows_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte*) const noexcept override {
    kernel_(table_, codes(o.a) + begin * cols_, (end - begin) * cols_,
            codes(o.dst) + begin * cols_);
  }

 private:
  decltype(KernelTable::lookup_u8) kernel_;
  const std::uint8_t* table_;
  std::size_t rows_, cols_;
};

class EmbedStep : public Step {
 public:
  EmbedStep(const Graph& graph, const EmbedOp& op, const KernelTable& table)
      : kernel_(table.residual_add), op_(op), rows_(graph.values[op.dst].shape[0]) {
    const Value& dst = graph.values[op.dst];
    dim_ = dst.shape[1];
    prefix_rows_ = op.prefix.shape()[0];
    zeros_.assign(dim_, 0);
    exponents_ = exponents_of(dst.grid, dim_);
    params_ = {.dim = dim_,
               .zero_a = graph.values[op.src].grid.zero_point,
               .multiplier_a = op.src_multiplier,
               .zero_b = op.position_zero_point,
               .multiplier_b = op.position_multiplier,
               .exponents_b = zeros_.data(),
               .exponents_dst = exponents_.data(),
               .shift = op.shift,
               .zero_point = dst.grid.zero_point};
  }
  std::size_t units() const noexcept override { return rows_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte*) const noexcept override {
    std::uint8_t* dst = codes(o.dst);
    if (begin < prefix_rows_) {
      const std::size_t stop = std::min(end, prefix_rows_);
      std::memcpy(dst + begin * dim_, op_.prefix.data() + begin * dim_, (stop - begin) * dim_);
      begin = stop;
    }
    if (begin == end) return;
    const std::size_t patch = begin - prefix_rows_;
    kernel_(params_, codes(o.a) + patch * dim_, op_.position.data() + patch * dim_, end - begin,
            dst + begin * dim_);
  }

 private:
  decltype(KernelTable::residual_add) kernel_;
  const EmbedOp& op_;
  std::size_t rows_, dim_, prefix_rows_;
  std::vector<std::uint8_t> zeros_, exponents_;
  kernels::ResidualParams params_;
};

class LayerNormStep : public Step {
 public:
  LayerNormStep(const Graph& graph, const LayerNormOp& op, const KernelTable& table)
      : kernel_(table.layernorm_ptf), rows_(graph.values[op.dst].shape[0]) {
    const Value& src = graph.values[op.src];
    exponents_ = exponents_of(src.grid, src.shape[1]);
    params_ = {.dim = src.shape[1],
               .zero_src = src.grid.zero_point,
               .exponents = exponents_.data(),
               .multiplier = op.multiplier.data(),
               .bias = op.bias.data(),
               .shift = op.shift,
               .zero_point = graph.values[op.dst].grid.zero_point};
  }
  std::size_t units() const noexcept override { return rows_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte*) const noexcept override {
    const std::size_t at = begin * params_.dim;
    kernel_(params_, codes(o.a) + at, end - begin, codes(o.dst) + at);
  }

 private:
  decltype(KernelTable::layernorm_ptf) kernel_;
  std::size_t rows_;
  std::vector<std::uint8_t> exponents_;
  kernels::LayerNormParams params_;
};

class LinearStep : public Step {
 public:
  LinearStep(const Graph& graph, const LinearOp& op, const KernelTable& table)
      : kernel_(table.gemm_u8s8),
        packed_(table.gemm_packed_bytes(op.weight.shape()[0], op.weight.shape()[1])) {
    const Value& dst = graph.values[op.dst];
    rows_ = dst.shape[0];
    element_bytes_ = dtype_size(dst.dtype);
    params_ = {.n = op.weight.shape()[0],
               .k = op.weight.shape()[1],
               .packed = packed_.data(),
               .multiplier = op.multiplier.data(),
               .bias = op.bias.data(),
               .shift = op.shift,
               .zero_point = dst.grid.zero_point,
               .output = dst.dtype == DType::kU8    ? kernels::OutputType::kU8
                         : dst.dtype == DType::kS16 ? kernels::OutputType::kS16
                                                    : kernels::OutputType::kS32};
    table.gemm_pack(op.weight.data(), params_.n, params_.k, packed_.data());
  }
  std::size_t units() const noexcept override { return rows_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte*) const noexcept override {
    std::byte* dst = static_cast<std::byte*>(o.dst) + begin * params_.n * element_bytes_;
    kernel_(params_, codes(o.a) + begin * params_.k, params_.k, end - begin, dst, params_.n);
  }

 private:
  decltype(KernelTable::gemm_u8s8) kernel_;
  AlignedBytes packed_;
  std::size_t rows_, element_bytes_;
  kernels::GemmParams params_;
};

/// Units are blocks of rows within heads: nothing larger than a block of scores is ever stored.
class AttentionStep : public Step {
 public:
  AttentionStep(const Graph& graph, const AttentionOp& op, const KernelTable& table)
      : table_(table),
        tokens_(graph.values[op.dst].shape[0]),
        dim_(graph.values[op.dst].shape[1]),
        head_dim_(dim_ / static_cast<std::size_t>(op.heads)),
        heads_(static_cast<std::size_t>(op.heads)),
        blocks_((tokens_ + kRowsPerBlock - 1) / kRowsPerBlock) {
    const std::int32_t zero_src = graph.values[op.src].grid.zero_point;
    scores_ = {zero_src, op.score_multiplier, op.score_shift, op.score_zero_point};
    softmax_ = {op.exponentials.data()};
    attend_ = {zero_src, static_cast<std::uint8_t>(op.zero_code), op.attend_multiplier,
               op.attend_shift, graph.values[op.dst].grid.zero_point};
  }
  std::size_t units() const noexcept override { return heads_ * blocks_; }
  std::size_t scratch_bytes() const noexcept override { return kRowsPerBlock * tokens_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte* scratch) const noexcept override {
    auto* map = reinterpret_cast<std::uint8_t*>(scratch);  // scores, then codes, in place
    for (std::size_t unit = begin; unit < end; ++unit) {
      const std::size_t head = unit / blocks_;
      const std::size_t row = unit % blocks_ * kRowsPerBlock;
      const std::size_t rows = std::min(kRowsPerBlock, tokens_ - row);
      const std::size_t stride = 3 * dim_;
      const std::uint8_t* q = codes(o.a) + head * head_dim_;
      const std::uint8_t* k = q + dim_;
      const std::uint8_t* v = k + dim_;
      table_.attention_scores(scores_, q + row * stride, rows, k, tokens_, head_dim_, stride, map);
      table_.softmax_log2(softmax_, map, rows, tokens_, map);
      table_.attend_log2(attend_, map, rows, v, tokens_, head_dim_, stride,
                         codes(o.dst) + row * dim_ + head * head_dim_, dim_);
    }
  }

 private:
  // Large enough to share the preparation of k and v, small enough for scores to stay in cache.
  static constexpr std::size_t kRowsPerBlock = 64;

  const KernelTable& table_;
  std::size_t tokens_, dim_, head_dim_, heads_, blocks_;
  kernels::ScoreParams scores_;
  kernels::SoftmaxParams softmax_;
  kernels::AttendParams attend_;
};

class GeluStep : public Step {
 public:
  GeluStep(const Graph& graph, const GeluOp& op, const KernelTable& table)
      : kernel_(table.gelu_table),
        rows_(graph.values[op.dst].shape[0]),
        cols_(graph.values[op.dst].shape[1]),
        params_{op.multiplier,  op.shift,        op.segment_bits,
                op.base.data(), op.slope.data(), graph.values[op.dst].grid.zero_point} {}
  std::size_t units() const noexcept override { return rows_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte*) const noexcept override {
    kernel_(params_, static_cast<const std::int16_t*>(o.a) + begin * cols_, (end - begin) * cols_,
            codes(o.dst) + begin * cols_);
  }

 private:
  decltype(KernelTable::gelu_table) kernel_;
  std::size_t rows_, cols_;
  kernels::GeluParams params_;
};

class ResidualAddStep : public Step {
 public:
  ResidualAddStep(const Graph& graph, const ResidualAddOp& op, const KernelTable& table)
      : kernel_(table.residual_add), rows_(graph.values[op.dst].shape[0]) {
    const Value& b = graph.values[op.b];
    const Value& dst = graph.values[op.dst];
    const std::size_t dim = dst.shape[1];
    exponents_b_ = exponents_of(b.grid, dim);
    exponents_dst_ = exponents_of(dst.grid, dim);
    params_ = {.dim = dim,
               .zero_a = graph.values[op.a].grid.zero_point,
               .multiplier_a = op.multiplier_a,
               .zero_b = b.grid.zero_point,
               .multiplier_b = op.multiplier_b,
               .exponents_b = exponents_b_.data(),
               .exponents_dst = exponents_dst_.data(),
               .shift = op.shift,
               .zero_point = dst.grid.zero_point};
  }
  std::size_t units() const noexcept override { return rows_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte*) const noexcept override {
    const std::size_t at = begin * params_.dim;
    kernel_(params_, codes(o.a) + at, o.b + at, end - begin, codes(o.dst) + at);
  }

 private:
  decltype(KernelTable::residual_add) kernel_;
  std::size_t rows_;
  std::vector<std::uint8_t> exponents_b_, exponents_dst_;
  kernels::ResidualParams params_;
};

/// Which step executes which operation.
struct MakeStep {
  const Graph& graph;
  const KernelTable& table;

  std::unique_ptr<Step> operator()(const PatchesOp& op) const { return make<PatchesStep>(op); }
  std::unique_ptr<Step> operator()(const LookupOp& op) const { return make<LookupStep>(op); }
  std::unique_ptr<Step> operator()(const EmbedOp& op) const { return make<EmbedStep>(op); }
  std::unique_ptr<Step> operator()(const LayerNormOp& op) const { return make<LayerNormStep>(op); }
  std::unique_ptr<Step> operator()(const LinearOp& op) const { return make<LinearStep>(op); }
  std::unique_ptr<Step> operator()(const AttentionOp& op) const { return make<AttentionStep>(op); }
  std::unique_ptr<Step> operator()(const GeluOp& op) const { return make<GeluStep>(op); }
  std::unique_ptr<Step> operator()(const ResidualAddOp& op) const {
    return make<ResidualAddStep>(op);
  }
  std::unique_ptr<Step> operator()(const SelectRowsOp&) const { return nullptr; }

  template <typename StepT, typename OpT>
  std::unique_ptr<Step> make(const OpT& op) const {
    return std::make_unique<StepT>(graph, op, table);
  }
};

}  // namespace

std::unique_ptr<Step> make_step(const Graph& graph, const Op& op,
                                const kernels::KernelTable& table) {
  return std::visit(MakeStep{graph, table}, op.params);
}

}  // namespace intaglio
