#include "tests/support/naive_network.h"

#include <cmath>

namespace intaglio::test {
namespace {

struct Matrix {
  std::size_t rows = 0, columns = 0;
  std::vector<double> values;

  Matrix(std::size_t r, std::size_t c) : rows(r), columns(c), values(r * c) {}
  double& at(std::size_t r, std::size_t c) { return values[r * columns + c]; }
  double at(std::size_t r, std::size_t c) const { return values[r * columns + c]; }
};

/// What is around a layer.
struct Context {
  const Network& network;
  const std::vector<Matrix>& results;
  std::span<const std::uint8_t> pixels;
  bool uniform_attention;
};

void apply(const Context& context, const PatchesLayer& op, const Matrix&, Matrix& dst) {
  const std::size_t size = context.network.image_size;
  const std::size_t across = size / op.patch;
  for (std::size_t y = 0; y < size; ++y) {
    for (std::size_t x = 0; x < size; ++x) {
      for (std::size_t c = 0; c < 3; ++c) {
        const double real =
            (context.pixels[(y * size + x) * 3 + c] / 255.0 - op.mean[c]) / op.std[c];
        dst.at(y / op.patch * across + x / op.patch,
               (y % op.patch * op.patch + x % op.patch) * 3 + c) = real;
      }
    }
  }
}

void apply(const Context&, const EmbedLayer& op, const Matrix& src, Matrix& dst) {
  const std::size_t prefix = dst.rows - src.rows;
  for (std::size_t r = 0; r < dst.rows; ++r) {
    for (std::size_t c = 0; c < dst.columns; ++c) {
      const double token =
          r < prefix ? double{op.tokens[r * dst.columns + c]} : src.at(r - prefix, c);
      dst.at(r, c) = token + double{op.position[r * dst.columns + c]};
    }
  }
}

void apply(const Context&, const LinearLayer& op, const Matrix& src, Matrix& dst) {
  // Rows of `src` that lie side by side are one row here.
  for (std::size_t r = 0; r < dst.rows; ++r) {
    for (std::size_t j = 0; j < op.n; ++j) {
      double sum = op.bias.empty() ? 0 : double{op.bias[j]};
      for (std::size_t i = 0; i < op.k; ++i) {
        sum += src.values[r * op.k + i] * double{op.weight[j * op.k + i]};
      }
      dst.at(r, j) = sum;
    }
  }
}

void apply(const Context&, const NormLayer& op, const Matrix& src, Matrix& dst) {
  const auto n = static_cast<double>(src.columns);
  for (std::size_t r = 0; r < src.rows; ++r) {
    double sum = 0, squares = 0;
    for (std::size_t c = 0; c < src.columns; ++c) {
      sum += src.at(r, c);
      squares += src.at(r, c) * src.at(r, c);
    }
    const double variance = squares / n - sum / n * (sum / n);
    for (std::size_t c = 0; c < src.columns; ++c) {
      const double y = (src.at(r, c) - sum / n) / std::sqrt(variance + double{op.epsilon});
      dst.at(r, c) = y * double{op.gamma[c]} + double{op.beta[c]};
    }
  }
}

void apply(const Context& context, const AttentionLayer& op, const Matrix& qkv, Matrix& dst) {
  const std::size_t dim = dst.columns;
  const std::size_t d = dim / op.heads;
  for (std::size_t column = 0; column < dim; ++column) {
    const std::size_t first = column / d * d;  // of its head
    for (std::size_t query = 0; query < dst.rows; ++query) {
      double weights = 0, sum = 0;
      for (std::size_t key = 0; key < dst.rows; ++key) {
        double score = 0;
        for (std::size_t i = first; i < first + d; ++i) {
          score += qkv.at(query, i) * qkv.at(key, dim + i);
        }
        const double root = std::sqrt(static_cast<double>(d));
        const double weight = context.uniform_attention ? 1 : std::exp(score / root);
        weights += weight;
        sum += weight * qkv.at(key, 2 * dim + column);
      }
      dst.at(query, column) = sum / weights;
    }
  }
}

void apply(const Context&, const GeluLayer&, const Matrix& src, Matrix& dst) {
  for (std::size_t i = 0; i < dst.values.size(); ++i) {
    const double x = src.values[i];
    dst.values[i] = x * 0.5 * std::erfc(-x / std::sqrt(2.0));
  }
}

void apply(const Context& context, const AddLayer& op, const Matrix& src, Matrix& dst) {
  for (std::size_t i = 0; i < dst.values.size(); ++i) {
    dst.values[i] = src.values[i] + context.results[op.stream].values[i];
  }
}

void apply(const Context&, const SelectLayer&, const Matrix& src, Matrix& dst) {
  for (std::size_t i = 0; i < dst.values.size(); ++i) dst.values[i] = src.values[i];
}

}  // namespace

std::vector<double> naive_logits(const Network& network, std::span<const std::uint8_t> pixels,
                                 bool uniform_attention) {
  std::vector<Matrix> results;
  const Matrix nothing(0, 0);
  const Context context{network, results, pixels, uniform_attention};
  for (const Layer& layer : network.layers) {
    Matrix dst(layer.rows, layer.channels);
    const Matrix& src = results.empty() ? nothing : results[layer.src];
    std::visit([&](const auto& op) { apply(context, op, src, dst); }, layer.op);
    results.push_back(std::move(dst));
  }
  return results.back().values;
}

}  // namespace intaglio::test
