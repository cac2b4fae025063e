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
  const Layer& layer;
  const Layer& src;
};

void apply(const Context& context, const PatchesLayer& op, const Matrix&, Matrix& dst) {
  const std::size_t height = context.network.image_height;
  const std::size_t width = context.network.image_width;
  const std::size_t across = (width + op.patch - 1) / op.patch;
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) {
      for (std::size_t c = 0; c < 3; ++c) {
        const double real =
            (context.pixels[(y * width + x) * 3 + c] / 255.0 - op.mean[c]) / op.std[c];
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

/// A side of a map, grown to whole windows and rolled by the shift, as in the original network.
struct RolledSide {
  std::size_t grown, window, shift;

  RolledSide(std::size_t side, const AttentionLayer& op)
      : grown((side + op.window - 1) / op.window * op.window),
        window(op.window),
        shift(grown > op.window ? op.window_shift : 0) {}
  std::size_t rolled(std::size_t at) const { return (at + grown - shift) % grown; }
  /// What the mask tells apart within the last window.
  int region(std::size_t at) const {
    return rolled(at) < grown - window ? 0 : rolled(at) < grown - shift ? 1 : 2;
  }
  bool together(std::size_t a, std::size_t b) const {
    return rolled(a) / window == rolled(b) / window && region(a) == region(b);
  }
};

/// q, k, v of one token; `beyond` the map the linear layer has seen zeros.
std::vector<double> qkv_of(const Context& context, const Matrix& qkv, std::size_t y,
                           std::size_t x) {
  const Layer& layer = context.layer;
  if (layer.width != 0 && (x >= layer.width || y >= layer.rows / layer.width)) {
    const std::vector<float>& bias = std::get<LinearLayer>(context.src.op).bias;
    std::vector<double> values(bias.begin(), bias.end());
    values.resize(qkv.columns);
    return values;
  }
  const double* row = &qkv.values[(y * layer.width + x) * qkv.columns];
  return {row, row + qkv.columns};
}

/// Rows and columns of keys that tokens may attend to.
struct Keys {
  std::size_t rows, columns;
};

void attend(const Context& context, const AttentionLayer& op, const Matrix& qkv, Matrix& dst,
            std::size_t y, std::size_t x, const Keys& keys,
            const std::vector<std::vector<double>>& tokens) {
  const Layer& layer = context.layer;
  const std::size_t dim = dst.columns;
  const std::size_t d = dim / op.heads;
  const std::size_t side = 2 * op.window - 1;
  const std::vector<double> query = qkv_of(context, qkv, y, x);
  for (std::size_t h = 0; h < op.heads; ++h) {
    double weights = 0;
    std::vector<double> sums(d);
    for (std::size_t ky = 0; ky < keys.rows; ++ky) {
      for (std::size_t kx = 0; kx < keys.columns; ++kx) {
        if (op.window != 0 && !(RolledSide(layer.rows / layer.width, op).together(y, ky) &&
                                RolledSide(layer.width, op).together(x, kx))) {
          continue;
        }
        const std::vector<double>& key = tokens[ky * keys.columns + kx];
        double score = 0;
        for (std::size_t i = h * d; i < (h + 1) * d; ++i) score += query[i] * key[dim + i];
        score /= std::sqrt(static_cast<double>(d));
        if (!op.bias.empty()) {
          const std::size_t dy = y + op.window - 1 - ky;
          score += double{op.bias[(h * side + dy) * side + x + op.window - 1 - kx]};
        }
        const double weight = context.uniform_attention ? 1 : std::exp(score);
        weights += weight;
        for (std::size_t i = 0; i < d; ++i) sums[i] += weight * key[2 * dim + h * d + i];
      }
    }
    for (std::size_t i = 0; i < d; ++i) {
      dst.at(y * layer.width + x, h * d + i) = sums[i] / weights;
    }
  }
}

void apply(const Context& context, const AttentionLayer& op, const Matrix& qkv, Matrix& dst) {
  const Layer& layer = context.layer;
  const std::size_t rows = layer.width == 0 ? 1 : layer.rows / layer.width;
  const std::size_t columns = layer.width == 0 ? layer.rows : layer.width;
  const Keys keys = op.window == 0
                        ? Keys{rows, columns}
                        : Keys{RolledSide(rows, op).grown, RolledSide(columns, op).grown};
  std::vector<std::vector<double>> tokens;
  for (std::size_t y = 0; y < keys.rows; ++y) {
    for (std::size_t x = 0; x < keys.columns; ++x) tokens.push_back(qkv_of(context, qkv, y, x));
  }
  for (std::size_t y = 0; y < rows; ++y) {
    for (std::size_t x = 0; x < columns; ++x) attend(context, op, qkv, dst, y, x, keys, tokens);
  }
}

void apply(const Context& context, const MergeLayer&, const Matrix& src, Matrix& dst) {
  const std::size_t columns = src.columns;
  for (std::size_t r = 0; r < src.rows; ++r) {
    const std::size_t y = r / context.src.width;
    const std::size_t x = r % context.src.width;
    const std::size_t to = y / 2 * context.layer.width + x / 2;
    for (std::size_t c = 0; c < columns; ++c) {
      dst.at(to, (x % 2 * 2 + y % 2) * columns + c) = src.at(r, c);
    }
  }
}

void apply(const Context&, const MeanLayer&, const Matrix& src, Matrix& dst) {
  for (std::size_t i = 0; i < src.values.size(); ++i) {
    dst.at(0, i % src.columns) += src.values[i] / static_cast<double>(src.rows);
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
  for (const Layer& layer : network.layers) {
    const Context context{network,           results, pixels,
                          uniform_attention, layer,   network.layers[layer.src]};
    Matrix dst(layer.rows, layer.channels);
    const Matrix& src = results.empty() ? nothing : results[layer.src];
    std::visit([&](const auto& op) { apply(context, op, src, dst); }, layer.op);
    results.push_back(std::move(dst));
  }
  return results.back().values;
}

}  // namespace intaglio::test
