// What the steps of steps.cpp, linear_step.cpp and attention_step.cpp share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/steps.h"

namespace intaglio {

/// Exponents of a grid, zeros where it has one scale.
inline std::vector<std::uint8_t> exponents_of(const Grid& grid, std::size_t dim) {
  return grid.exponents.empty() ? std::vector<std::uint8_t>(dim, 0) : grid.exponents;
}

inline const std::uint8_t* codes(const void* buffer) {
  return static_cast<const std::uint8_t*>(buffer);
}
inline std::uint8_t* codes(void* buffer) {
  return static_cast<std::uint8_t*>(buffer);
}
inline const std::int16_t* words(const void* buffer) {
  return static_cast<const std::int16_t*>(buffer);
}

inline kernels::CodeType code_type(DType dtype) {
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

inline kernels::GeluParams gelu_params(const Graph& graph, const GeluOp& op) {
  const Value& dst = graph.values[op.dst];
  const auto& exponents = dst.grid.exponents;
  return {.multiplier = op.multiplier,
          .shift = op.shift,
          .segment_bits = op.segment_bits,
          .base = op.base.data(),
          .slope = op.slope.data(),
          .zero_point = dst.grid.zero_point,
          .exponents = exponents.empty() ? nullptr : exponents.data(),
          .dim = channels_of(dst)};
}

/// A residual addition's parameters and the exponents they point to.
struct Addition {
  Addition(const Graph& graph, const ResidualAddOp& op) {
    const Value& b = graph.values[op.b];
    const Value& dst = graph.values[op.dst];
    exponents_b = exponents_of(b.grid, channels_of(dst));
    exponents_dst = exponents_of(dst.grid, channels_of(dst));
    params = {.dim = channels_of(dst),
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

std::unique_ptr<Step> make_linear_step(const Graph& graph, const LinearOp& op, const Work& work,
                                       const kernels::KernelTable& table);
std::unique_ptr<Step> make_attention_step(const Graph& graph, const AttentionOp& op,
                                          const Work& work, const kernels::KernelTable& table);

}  // namespace intaglio
