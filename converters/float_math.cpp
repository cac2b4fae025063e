#include "converters/float_math.h"

#include <dlfcn.h>

#include <cmath>
#include <oneapi/dnnl/dnnl.hpp>

#include "graph/error.h"

namespace intaglio {
namespace {

dnnl::memory::dim dim(std::size_t n) {
  return static_cast<dnnl::memory::dim>(n);
}

dnnl::memory::desc matrix(std::size_t rows, std::size_t columns) {
  return {{dim(rows), dim(columns)}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::ab};
}

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

void run_in_place(const dnnl::primitive& primitive, const dnnl::memory::desc& shape,
                  float* values) {
  dnnl::stream stream(cpu());
  dnnl::memory memory(shape, cpu(), values);
  primitive.execute(stream, {{DNNL_ARG_SRC, memory}, {DNNL_ARG_DST, memory}});
  stream.wait();
}

}  // namespace

void Product::run() const {
  const auto status = dnnl::sgemm('N', plain ? 'N' : 'T', dim(m), dim(n), dim(k), alpha, a,
                                  dim(a_stride), b, dim(b_stride), 0, c, dim(c_stride));
  if (status != dnnl::status::success) {
    throw Error(ErrorCode::kUnsupported, "oneDNN cannot multiply these matrices");
  }
}

void gelu(float* values, std::size_t count) {
  const auto shape = matrix(1, count);
  const dnnl::eltwise_forward::desc desc(dnnl::prop_kind::forward_inference,
                                         dnnl::algorithm::eltwise_gelu_erf, shape);
  run_in_place(dnnl::eltwise_forward({desc, cpu()}), shape, values);
}

void softmax(float* values, std::size_t rows, std::size_t columns) {
  const auto shape = matrix(rows, columns);
  const dnnl::softmax_forward::desc desc(dnnl::prop_kind::forward_inference, shape, 1);
  run_in_place(dnnl::softmax_forward({desc, cpu()}), shape, values);
}

void normalize(const FloatNorm& norm, const float* src, float* dst) {
  const std::size_t n = norm.gamma.size();
  const auto count = static_cast<double>(n);
  double mean = 0;
  for (std::size_t c = 0; c < n; ++c) mean += double{src[c]};
  mean /= count;
  double variance = 0;
  for (std::size_t c = 0; c < n; ++c) variance += (src[c] - mean) * (src[c] - mean);
  const double rate = 1 / std::sqrt(variance / count + double{norm.epsilon});
  for (std::size_t c = 0; c < n; ++c) {
    const double y = (src[c] - mean) * rate * double{norm.gamma[c]};
    dst[c] = static_cast<float>(y + double{norm.beta[c]});
  }
}

void no_threads_of_openmp() {
  // Through the loader, because compilers bring different OpenMP runtimes.
  using SetThreads = void (*)(int);
  static const auto set = reinterpret_cast<SetThreads>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  if (set != nullptr) set(1);
}

}  // namespace intaglio
