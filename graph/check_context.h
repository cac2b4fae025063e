// What the checks of all operations share; check.cpp and check_attention.cpp use it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "graph/error.h"
#include "graph/graph.h"

namespace intaglio {

/// Wide enough for any product of parameters that is to be proven to fit 64 bits.
using Wide = __int128;
inline constexpr Wide kLimit63 = Wide{1} << 63;

inline std::string shape_text(const std::vector<std::size_t>& shape) {
  std::string text = "[";
  for (const std::size_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

/// Where a check is, what has been made so far, and what operands must be.
class CheckContext {
 public:
  explicit CheckContext(const Graph& graph) : graph_(graph), made_(graph.values.size(), false) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kFormat, where_ + ": " + what);
  }
  void require(bool condition, const char* what) const {
    if (!condition) fail(what);
  }
  template <typename T>
  void require_range(const char* name, T value, std::int64_t low, std::int64_t high) const {
    if (std::int64_t{value} < low || std::int64_t{value} > high) {
      fail(std::string(name) + " is " + std::to_string(value) + ", allowed is " +
           std::to_string(low) + " to " + std::to_string(high));
    }
  }
  template <typename T>
  void require_shape(const char* name, const Constant<T>& constant,
                     const std::vector<std::size_t>& shape) const {
    std::size_t elements = 1;
    for (const std::size_t n : shape) elements *= n;
    if (constant.shape() != shape || constant.size() != elements) {
      fail(std::string(name) + " has shape " + shape_text(constant.shape()) + ", expected " +
           shape_text(shape));
    }
  }

  const Value& source(ValueId id) const {
    if (id >= graph_.values.size()) fail("an operand is no value");
    if (!made_[id]) fail("'" + graph_.values[id].name + "' is used before it is made");
    if (id == graph_.output) fail("the logits are read by an operation");
    // Its rows need not be dense.
    if (id == graph_.input)
      fail("'" + graph_.values[id].name + "' is the image: only patches read it");
    return graph_.values[id];
  }
  const Value& made(ValueId id) {
    if (id >= graph_.values.size()) fail("the result is no value");
    if (made_[id]) fail("'" + graph_.values[id].name + "' is made twice");
    made_[id] = true;
    return graph_.values[id];
  }
  /// A sequence of rows or a map.
  void require_rows(const Value& value, DType dtype) const {
    if (value.dtype != dtype) fail_type(value, dtype, "");
  }
  void require_matrix(const Value& value, DType dtype) const {
    if (value.dtype != dtype || value.shape.size() != 2) {
      fail_type(value, dtype, " [rows, channels]");
    }
  }
  void require_map(const Value& value, DType dtype) const {
    if (value.dtype != dtype || value.shape.size() != 3) {
      fail_type(value, dtype, " [height, width, channels]");
    }
  }
  /// Equal but for the channels.
  void require_same_rows(const Value& a, const Value& b) const {
    if (!std::equal(a.shape.begin(), a.shape.end() - 1, b.shape.begin(), b.shape.end() - 1)) {
      fail("'" + a.name + "' " + shape_text(a.shape) + " and '" + b.name + "' " +
           shape_text(b.shape) + " must have the same rows");
    }
  }
  void require_same_shape(const Value& a, const Value& b) const {
    if (a.shape != b.shape) {
      fail("'" + a.name + "' " + shape_text(a.shape) + " and '" + b.name + "' " +
           shape_text(b.shape) + " must have one shape");
    }
  }
  void require_one_scale(const Value& value) const {
    if (!value.grid.exponents.empty()) fail("'" + value.name + "' must have one scale");
  }
  static int max_exponent(const Grid& grid) {
    return grid.exponents.empty() ? 0
                                  : *std::max_element(grid.exponents.begin(), grid.exponents.end());
  }
  static std::int64_t max_distance(std::int32_t zero_point) {
    return std::max(zero_point, 255 - zero_point);
  }
  /// A residual stream as residual additions between codes read and write it.
  void stream(const Value& value) const { require_rows(value, DType::kU8); }
  /// A residual stream of either type: u8 on a PTF grid, or s16 with one scale.
  void any_stream(const Value& value) const {
    require_rows(value, value.dtype == DType::kS16 ? DType::kS16 : DType::kU8);
    if (value.dtype == DType::kS16) require_one_scale(value);
  }

 protected:
  [[noreturn]] void fail_type(const Value& value, DType dtype, const char* shape) const {
    fail("'" + value.name + "' is " + std::string(dtype_name(value.dtype)) + " " +
         shape_text(value.shape) + ", expected " + std::string(dtype_name(dtype)) + shape);
  }

  const Graph& graph_;
  std::vector<bool> made_;
  std::string where_;
};

/// Throws unless no input can make the operation overflow; values and constants included.
void check_attention(CheckContext& context, const AttentionOp& op);

}  // namespace intaglio
