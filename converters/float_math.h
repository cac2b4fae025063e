// Float32 on oneDNN: what the float executor is made of.
#pragma once

#include <cstddef>

#include "converters/network.h"

namespace intaglio {

/// c [m, n] = alpha * a [m, k] * b^T, b [n, k]; with `plain`, b is [k, n].
struct Product {
  std::size_t m, n, k;
  const float *a, *b;
  float* c;
  std::size_t a_stride, b_stride, c_stride;
  float alpha = 1;
  bool plain = false;

  void run() const;
};

void gelu(float* values, std::size_t count);
/// Of each row.
void softmax(float* values, std::size_t rows, std::size_t columns);
/// One row [channels].
void normalize(const FloatNorm& norm, const float* src, float* dst);

/// oneDNN is built with OpenMP, whose threads spin while they wait: the executor has threads of its
/// own instead. To be called on each of them.
void no_threads_of_openmp();

}  // namespace intaglio
