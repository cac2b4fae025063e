#include "graph/check.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <set>
#include <string_view>

#include "graph/check_context.h"
#include "kernels/fixed_point.h"

namespace intaglio {
namespace {

using kernels::kMaxExponent;
using kernels::kMaxGemmDepth;
using kernels::kMaxMeanRows;
using kernels::kMaxNormDim;
using kernels::kMaxShift;
using kernels::kNormFractionBits;

// Far more than any network of today; planning is quadratic in it.
constexpr std::size_t kMaxOperations = 10'000;

/// Checks one graph; the methods are called in the order of the file.
class Checker : public CheckContext {
 public:
  using CheckContext::CheckContext;

  void run() {
    if (graph_.values.empty() || graph_.ops.empty()) fail("the graph is empty");
    if (graph_.ops.size() > kMaxOperations) {
      throw Error(ErrorCode::kLimit,
                  "the graph has more than " + std::to_string(kMaxOperations) + " operations");
    }
    std::set<std::string_view> names;
    for (const Value& value : graph_.values) {
      check_value(value);
      require(names.insert(value.name).second, "another value has this name");
    }
    check_ends();
    made_[graph_.input] = true;
    for (const Op& op : graph_.ops) {
      where_ = "operation '" + op.name + "' (" + kind_name(op.params) + ")";
      std::visit([this](const auto& params) { check_op(params); }, op.params);
    }
    where_ = "graph";
    for (std::size_t i = 0; i < made_.size(); ++i) {
      if (!made_[i]) fail("no operation makes value '" + graph_.values[i].name + "'");
    }
    if (graph_.output == graph_.input) fail("the output is the input");
    check_features();
  }

 private:
  // --- values -----------------------------------------------------------------------------------

  void check_value(const Value& value) {
    where_ = "value '" + value.name + "'";
    require(!value.name.empty() && value.name.size() <= 1024,
            "the name needs 1 to 1024 characters");
    require(value.dtype == DType::kU8 || value.dtype == DType::kS16 || value.dtype == DType::kS32,
            "activations are u8, s16 or s32");
    require(value.shape.size() == 2 || value.shape.size() == 3, "expected 2 or 3 dimensions");
    std::size_t bytes = dtype_size(value.dtype);
    for (const std::size_t n : value.shape) {
      if (n == 0 || __builtin_mul_overflow(bytes, n, &bytes)) fail("impossible shape");
    }
    if (bytes > max_value_bytes()) {
      throw Error(ErrorCode::kLimit, where_ + ": shape " + shape_text(value.shape) + " needs " +
                                         std::to_string(bytes) + " bytes, more than the model's " +
                                         "parameters justify");
    }
    const Grid& grid = value.grid;
    require(std::isfinite(grid.scale) && grid.scale > 0, "the scale must be positive and finite");
    require_range("zero_point", grid.zero_point, 0, value.dtype == DType::kU8 ? 255 : 0);
    if (grid.exponents.empty()) return;
    require(grid.exponents.size() == channels_of(value), "exponents must be one per channel");
    for (const std::uint8_t k : grid.exponents) require_range("exponent", k, 0, kMaxExponent);
  }

  /// Activations grow with the parameters of real models; a small file must not ask for gigabytes.
  std::size_t max_value_bytes() {
    if (max_value_bytes_ == 0) {
      max_value_bytes_ = std::size_t{16} << 20;
      max_value_bytes_ += 16 * constant_bytes(graph_);
    }
    return max_value_bytes_;
  }

  void check_ends() {
    where_ = "graph";
    require(graph_.input < graph_.values.size() && graph_.output < graph_.values.size(),
            "input or output is no value");
    const Value& in = graph_.values[graph_.input];
    require(in.dtype == DType::kU8 && in.shape.size() == 3 && in.shape[2] == 3 &&
                in.shape[0] <= kMaxImageSide && in.shape[1] <= kMaxImageSide,
            "the input must be u8 [height, width, 3], sides up to 4096");
    const Value& out = graph_.values[graph_.output];
    require(out.dtype == DType::kS32 && out.shape.size() == 2 && out.shape[0] == 1,
            "the output must be s32 [1, classes]");
    const Preprocessing& p = graph_.preprocessing;
    require(p.height > 0 && p.width > 0 && std::size_t(p.height) == in.shape[0] &&
                std::size_t(p.width) == in.shape[1] && p.resize >= 1 &&
                std::size_t(p.resize) <= 2 * kMaxImageSide,
            "the preprocessing does not give the shape of the input");
    const auto finite = [](const std::array<double, 3>& reals) {
      return std::all_of(reals.begin(), reals.end(), [](double r) { return std::isfinite(r); });
    };
    require(finite(p.mean) && finite(p.std), "mean and std of the preprocessing must be finite");
    if (!graph_.labels.empty() && graph_.labels.size() != out.shape[1]) {
      fail(std::to_string(graph_.labels.size()) + " labels for " + std::to_string(out.shape[1]) +
           " classes");
    }
  }

  void check_features() const {
    std::set<std::string_view> names;
    for (const Feature& feature : graph_.features) {
      if (feature.name.empty() || !names.insert(feature.name).second) {
        fail("a feature needs a name of its own, found '" + feature.name + "' again");
      }
      if (feature.value >= graph_.values.size() || feature.value == graph_.input ||
          feature.value == graph_.output) {
        fail("feature '" + feature.name + "' must be a value between image and logits");
      }
    }
  }

  // --- operations -------------------------------------------------------------------------------

  void check_op(const PatchesOp& op) {
    require(op.src == graph_.input, "patches are made of the input image");
    const Value& src = graph_.values[op.src];
    const Value& dst = made(op.dst);
    require_rows(dst, DType::kU8);
    require_range("patch", op.patch, 1, 1024);
    const auto patch = std::size_t(op.patch);
    const std::size_t height = (src.shape[0] + patch - 1) / patch;
    const std::size_t width = (src.shape[1] + patch - 1) / patch;
    const std::size_t channels = patch * patch * 3;
    if (op.padding.size() != 0) {
      require_shape("padding", op.padding, {3});
    } else {
      require(src.shape[0] % patch == 0 && src.shape[1] % patch == 0,
              "without padding, the patch must divide the image");
    }
    const std::vector<std::size_t> sequence = {height * width, channels};
    const std::vector<std::size_t> map = {height, width, channels};
    require(dst.shape == sequence || dst.shape == map,
            "the result must be [patches, patch * patch * 3] or a map of them");
    require_shape("table", op.table, {3, 256});
  }

  void check_op(const LookupOp& op) {
    const Value& src = source(op.src);
    const Value& dst = made(op.dst);
    require_rows(src, DType::kU8);
    require_rows(dst, DType::kU8);
    require_same_shape(src, dst);
    require_shape("table", op.table, {256});
  }

  /// Both addends and the rounding constant stay below 2^31 (ResidualParams).
  void check_sum(std::int32_t zero_a, std::int32_t multiplier_a, const Grid& b,
                 std::int32_t multiplier_b, const Grid& dst, std::int32_t shift) const {
    require_range("multiplier", multiplier_a, 0, INT32_MAX);
    require_range("multiplier", multiplier_b, 0, INT32_MAX);
    require_range("shift", shift, 1, 30 - kMaxExponent);
    const std::int64_t largest_a = max_distance(zero_a) * multiplier_a;
    const std::int64_t largest_b = (max_distance(b.zero_point) << max_exponent(b)) * multiplier_b;
    const std::int64_t half = std::int64_t{1} << (shift + max_exponent(dst) - 1);
    require(largest_a + largest_b + half <= INT32_MAX, "the sum can overflow 32 bits");
  }

  void check_op(const EmbedOp& op) {
    const Value& src = source(op.src);
    const Value& dst = made(op.dst);
    any_stream(dst);
    require_matrix(src, dst.dtype);
    require_matrix(dst, dst.dtype);
    require_one_scale(src);
    const auto& prefix = op.prefix.shape();
    require(prefix.size() == 2 && prefix[1] == dst.shape[1], "prefix must be [rows, channels]");
    require(dst.shape[0] >= prefix[0] && dst.shape[0] - prefix[0] == src.shape[0] &&
                dst.shape[1] == src.shape[1],
            "the result must have the prefix's and the patches' rows");
    require_shape("prefix", op.prefix, prefix);
    require_shape("position", op.position, src.shape);
    if (dst.dtype == DType::kS16) {
      require(src.grid.scale == dst.grid.scale, "s16 patches must have the result's scale");
      require(op.position_zero_point == 0 && op.src_multiplier == 0 &&
                  op.position_multiplier == 0 && op.shift == 0,
              "an s16 embedding has no multipliers, shift or zero point");
      return;
    }
    require_u8_codes("prefix", op.prefix);
    require_u8_codes("position", op.position);
    require_range("position_zero_point", op.position_zero_point, 0, 255);
    check_sum(src.grid.zero_point, op.src_multiplier, Grid{1, op.position_zero_point, {}},
              op.position_multiplier, dst.grid, op.shift);
  }
  void require_u8_codes(const char* name, const Constant<std::int16_t>& constant) const {
    for (const std::int16_t code : constant.view()) require_range(name, code, 0, 255);
  }

  void check_op(const LayerNormOp& op) {
    const Value& src = source(op.src);
    const Value& dst = made(op.dst);
    any_stream(src);
    require_rows(dst, dst.dtype == DType::kS16 ? DType::kS16 : DType::kU8);
    require_one_scale(dst);
    require_range("merge", op.merge, 1, 2);
    if (op.merge == 1) {
      require_same_shape(src, dst);
    } else {
      require_map(src, src.dtype);
      const auto half = [](std::size_t n) { return (n + 1) / 2; };
      const std::vector<std::size_t> merged = {half(src.shape[0]), half(src.shape[1]),
                                               4 * src.shape[2]};
      if (dst.shape != merged) fail("the result must be " + shape_text(merged));
    }
    const std::size_t dim = channels_of(dst);
    require(dim <= kMaxNormDim, "too many channels");
    require_shape("multiplier", op.multiplier, {dim});
    require_shape("bias", op.bias, {dim});
    require_range("shift", op.shift, 1, kMaxShift);
    // |x_c| <= sqrt(dim - 1), and floor adds at most one unit.
    const Wide largest = (Wide{kernels::integer_sqrt(dim) + 1} << kNormFractionBits) + 1;
    for (std::size_t c = 0; c < dim; ++c) require_product(largest, op.multiplier[c], op.bias[c], c);
  }

  /// |operand * multiplier + bias| + added < 2^63 for |operand| <= largest.
  static bool product_fits(Wide largest, std::int32_t multiplier, std::int64_t bias, Wide added) {
    const Wide product = largest * std::abs(std::int64_t{multiplier}) + added;
    const Wide offset = bias < 0 ? -Wide{bias} : Wide{bias};
    return product + offset < kLimit63;
  }
  void require_product(Wide largest, std::int32_t multiplier, std::int64_t bias, std::size_t c,
                       Wide added = 0) const {
    if (!product_fits(largest, multiplier, bias, added))
      fail("channel " + std::to_string(c) + " can overflow 64 bits");
  }

  void check_op(const LinearOp& op) {
    const Value& src = source(op.src);
    const Value* residual = op.residual ? &source(*op.residual) : nullptr;
    const Value& dst = made(op.dst);
    require_rows(src, DType::kU8);  // exponents, if it has any, are in the weights
    require_same_rows(src, dst);
    const std::size_t n = channels_of(dst);
    const std::size_t k = channels_of(src);
    require(k <= kMaxGemmDepth, "too many input channels");
    require_shape("weight", op.weight, {n, k});
    require_shape("multiplier", op.multiplier, {n});
    require_shape("bias", op.bias, {n});
    require_range("shift", op.shift, 1, kMaxShift);
    if (residual != nullptr) {
      any_stream(*residual);
      any_stream(dst);
      require_same_shape(*residual, dst);
      if (op.residual_multiplier.size() == 0) {
        require(residual->dtype == DType::kS16 && dst.dtype == DType::kS16 &&
                    residual->grid.scale == dst.grid.scale,
                "without residual_multiplier, both streams must be s16 with one scale");
      } else {
        require_shape("residual_multiplier", op.residual_multiplier, {n});
      }
    } else {
      require(dst.dtype == DType::kU8 || dst.grid.exponents.empty(),
              "only u8 codes have exponents");
      require(op.residual_multiplier.size() == 0, "residual_multiplier without a residual");
    }
    const std::int64_t reach = residual == nullptr ? 0
                               : residual->dtype == DType::kS16
                                   ? 32768
                                   : max_distance(residual->grid.zero_point);
    const std::int64_t bound = 255 * 128 * std::int64_t(k);
    static_assert(255 * 128 * std::int64_t{kMaxGemmDepth} <= INT32_MAX);  // accumulators fit
    for (std::size_t j = 0; j < n; ++j) {
      const Wide added = op.residual_multiplier.size() == 0
                             ? 0
                             : Wide{reach} * std::abs(std::int64_t{op.residual_multiplier[j]});
      // Real layers are far from the limit; then their weights, most of the file, are not read.
      if (product_fits(bound, op.multiplier[j], op.bias[j], added)) continue;
      const std::int64_t largest = largest_accumulator(op.weight.view().subspan(j * k, k));
      require_product(largest, op.multiplier[j], op.bias[j], j, added);
    }
  }
  /// Of codes 0..255 times these weights, either sign.
  static std::int64_t largest_accumulator(std::span<const std::int8_t> weights) {
    std::int64_t positive = 0;
    std::int64_t negative = 0;
    for (const std::int64_t w : weights) (w > 0 ? positive : negative) += w;
    return 255 * std::max(positive, -negative);
  }

  void check_op(const AttentionOp& op) { check_attention(*this, op); }

  void check_op(const GeluOp& op) {
    const Value& src = source(op.src);
    const Value& dst = made(op.dst);
    require_rows(src, DType::kS16);
    require_rows(dst, DType::kU8);
    require_same_shape(src, dst);
    require_range("multiplier", op.multiplier, 0, 32767);
    require_range("shift", op.shift, 1, 30 - max_exponent(dst.grid));
    require_range("segment_bits", op.segment_bits, 0, 9);
    require_shape("base", op.base, {64});
    require_shape("slope", op.slope, {64});
    const std::int64_t rest = (std::int64_t{1} << op.segment_bits) - 1;
    constexpr std::int64_t kBend = std::int64_t{1} << 29;
    // The largest product, the table and the rounding constant at a shift of 30.
    static_assert(std::int64_t{32768} * 32767 + (kBend - 1) + (std::int64_t{1} << 29) <= INT32_MAX);
    for (std::size_t i = 0; i < 64; ++i) {
      const std::int64_t first = op.base[i];
      const std::int64_t last = first + op.slope[i] * rest;
      require(std::abs(first) < kBend && std::abs(last) < kBend &&
                  std::abs(op.slope[i] * rest) <= INT32_MAX,
              "the table can overflow 32 bits");
    }
  }

  void check_op(const ResidualAddOp& op) {
    const Value& a = source(op.a);
    const Value& b = source(op.b);
    const Value& dst = made(op.dst);
    require_rows(a, DType::kU8);
    require_one_scale(a);
    stream(b);
    stream(dst);
    require_same_shape(a, b);
    require_same_shape(a, dst);
    check_sum(a.grid.zero_point, op.multiplier_a, b.grid, op.multiplier_b, dst.grid, op.shift);
  }

  void check_op(const SelectRowsOp& op) {
    const Value& src = source(op.src);
    const Value& dst = made(op.dst);
    require_matrix(src, src.dtype);
    require_matrix(dst, src.dtype);
    require(op.dst != graph_.output, "logits must be made by a linear layer");
    require_range("first", op.first, 0, std::int64_t(src.shape[0]) - 1);
    const bool side_by_side = dst.shape[0] == 1 && dst.shape[1] % src.shape[1] == 0;
    require(side_by_side || dst.shape[1] == src.shape[1],
            "the result must be [count, channels] or [1, count * channels]");
    const std::size_t count = dst.shape[0] * (dst.shape[1] / src.shape[1]);
    require(src.shape[0] - std::size_t(op.first) >= count, "the rows reach beyond the operand");
    require(src.grid.zero_point == dst.grid.zero_point && src.grid.exponents == dst.grid.exponents,
            "operand and result must have one grid");
  }

  /// A sum of 2^23 rows stays below 2^31, and the shift of their mean at most 62.
  void check_op(const MeanRowsOp& op) {
    const Value& src = source(op.src);
    const Value& dst = made(op.dst);
    require_rows(src, DType::kU8);
    require_matrix(dst, DType::kU8);
    require_one_scale(src);
    require_one_scale(dst);
    require(dst.shape[0] == 1 && dst.shape[1] == channels_of(src),
            "the result must be [1, channels]");
    require(rows_of(src) <= kMaxMeanRows, "too many rows");
    require_range("multiplier", op.multiplier, 0, INT32_MAX);
    require_range("shift", op.shift, 1, kMaxShift - std::bit_width(kMaxMeanRows));
  }

  std::size_t max_value_bytes_ = 0;
};

}  // namespace

void check(const Graph& graph) {
  Checker(graph).run();
}

}  // namespace intaglio
