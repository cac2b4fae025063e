#include "engine/steps.h"

#include <algorithm>
#include <vector>

#include "engine/step_parts.h"

namespace intaglio {
namespace {

using kernels::KernelTable;

class PatchesStep : public RowStep {
 public:
  PatchesStep(const Graph& graph, const PatchesOp& op, const Work& work, const KernelTable& table)
      : RowStep(work.rows), kernel_(table.pixels_to_patches) {
    const auto& shape = graph.values[op.src].shape;
    params_ = {shape[0], shape[1], static_cast<std::size_t>(op.patch), op.table.data(),
               op.padding.data()};
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
        cols_(channels_of(graph.values[op.dst])) {}

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

kernels::LayerNormParams norm_params(const Graph& graph, const LayerNormOp& op,
                                     const std::vector<std::uint8_t>& exponents) {
  const Value& src = graph.values[op.src];
  const Value& dst = graph.values[op.dst];
  return {.dim = channels_of(dst),
          .src_type = code_type(src.dtype),
          .zero_src = src.grid.zero_point,
          .exponents = exponents.data(),
          .multiplier = op.multiplier.data(),
          .bias = op.bias.data(),
          .shift = op.shift,
          .zero_point = dst.grid.zero_point,
          .dst_type = code_type(dst.dtype)};
}

class LayerNormStep : public RowStep {
 public:
  LayerNormStep(const Graph& graph, const LayerNormOp& op, const Work& work,
                const KernelTable& table)
      : RowStep(work.rows), kernel_(table.layernorm_ptf) {
    const Value& src = graph.values[op.src];
    const Value& dst = graph.values[op.dst];
    exponents_ = exponents_of(src.grid, channels_of(src));
    src_bytes_ = channels_of(src) * dtype_size(src.dtype);
    dst_bytes_ = channels_of(dst) * dtype_size(dst.dtype);
    params_ = norm_params(graph, op, exponents_);
  }

 private:
  void run_rows(const Operands& o, std::size_t begin, std::size_t end) const noexcept override {
    kernel_(params_, static_cast<const std::byte*>(o.a) + begin * src_bytes_, end - begin,
            static_cast<std::byte*>(o.dst) + begin * dst_bytes_);
  }

  decltype(KernelTable::layernorm_ptf) kernel_;
  std::size_t src_bytes_, dst_bytes_;
  std::vector<std::uint8_t> exponents_;
  kernels::LayerNormParams params_;
};

/// LayerNorm of squares of 2 x 2 tokens: the channels of a few squares are put side by side where
/// the kernel reads them next.
class MergeNormStep : public Step {
 public:
  MergeNormStep(const Graph& graph, const LayerNormOp& op, const Work& work,
                const KernelTable& table)
      : kernel_(table.layernorm_ptf), rows_(work.rows) {
    const Value& src = graph.values[op.src];
    const Value& dst = graph.values[op.dst];
    height_ = src.shape[0];
    width_ = src.shape[1];
    dst_width_ = dst.shape[1];
    token_bytes_ = channels_of(src) * dtype_size(src.dtype);
    dst_bytes_ = channels_of(dst) * dtype_size(dst.dtype);
    beyond_ = src.dtype == DType::kU8 ? static_cast<std::uint8_t>(src.grid.zero_point) : 0;
    const std::vector<std::uint8_t> token = exponents_of(src.grid, channels_of(src));
    for (std::size_t i = 0; i < 4; ++i) {
      exponents_.insert(exponents_.end(), token.begin(), token.end());
    }
    params_ = norm_params(graph, op, exponents_);
  }
  std::size_t units() const noexcept override { return rows_.count(); }
  std::size_t scratch_bytes() const noexcept override { return kRows * 4 * token_bytes_; }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte* scratch) const noexcept override {
    for (std::size_t i = begin; i < end; i += kRows) {
      const std::size_t rows = std::min(kRows, end - i);
      const std::size_t first = rows_.begin + i;
      for (std::size_t r = 0; r < rows; ++r) {
        gather(static_cast<const std::byte*>(o.a), first + r, scratch + r * 4 * token_bytes_);
      }
      kernel_(params_, scratch, rows, static_cast<std::byte*>(o.dst) + first * dst_bytes_);
    }
  }

 private:
  static constexpr std::size_t kRows = 4;  // as the kernel takes them

  void gather(const std::byte* src, std::size_t row, std::byte* out) const noexcept {
    for (std::size_t i = 0; i < 4; ++i, out += token_bytes_) {
      const std::size_t y = row / dst_width_ * 2 + i % 2;
      const std::size_t x = row % dst_width_ * 2 + i / 2;
      if (y < height_ && x < width_) {
        std::copy_n(src + (y * width_ + x) * token_bytes_, token_bytes_, out);
      } else {
        std::fill_n(out, token_bytes_, std::byte{beyond_});
      }
    }
  }

  decltype(KernelTable::layernorm_ptf) kernel_;
  Rows rows_;
  std::size_t height_, width_, dst_width_, token_bytes_, dst_bytes_;
  std::uint8_t beyond_;  ///< every byte of the code of 0
  std::vector<std::uint8_t> exponents_;
  kernels::LayerNormParams params_;
};

/// Units are groups of columns.
class MeanRowsStep : public Step {
 public:
  MeanRowsStep(const Graph& graph, const MeanRowsOp& op, const Work&, const KernelTable& table)
      : kernel_(table.mean_rows), rows_(rows_of(graph.values[op.src])) {
    params_ = {.dim = channels_of(graph.values[op.src]),
               .zero_src = graph.values[op.src].grid.zero_point,
               .multiplier = op.multiplier,
               .shift = op.shift,
               .zero_point = graph.values[op.dst].grid.zero_point};
  }
  std::size_t units() const noexcept override {
    return (params_.dim + kernels::kColumnStep - 1) / kernels::kColumnStep;
  }
  void run(const Operands& o, std::size_t begin, std::size_t end,
           std::byte*) const noexcept override {
    kernel_(params_,
            {begin * kernels::kColumnStep, std::min(params_.dim, end * kernels::kColumnStep)},
            codes(o.a), rows_, codes(o.dst));
  }

 private:
  decltype(KernelTable::mean_rows) kernel_;
  std::size_t rows_;
  kernels::MeanParams params_;
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
  std::unique_ptr<Step> operator()(const LayerNormOp& op) const {
    return op.merge == 1 ? make<LayerNormStep>(op) : make<MergeNormStep>(op);
  }
  std::unique_ptr<Step> operator()(const LinearOp& op) const {
    return make_linear_step(graph, op, work, table);
  }
  std::unique_ptr<Step> operator()(const AttentionOp& op) const {
    return make_attention_step(graph, op, work, table);
  }
  std::unique_ptr<Step> operator()(const GeluOp& op) const { return make<GeluStep>(op); }
  std::unique_ptr<Step> operator()(const ResidualAddOp& op) const {
    return make<ResidualAddStep>(op);
  }
  std::unique_ptr<Step> operator()(const SelectRowsOp&) const { return nullptr; }
  std::unique_ptr<Step> operator()(const MeanRowsOp& op) const { return make<MeanRowsStep>(op); }

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
  work.rows = {0, rows_of(graph.values[result_of(op)])};
  return make_step(graph, work, table);
}

}  // namespace intaglio
