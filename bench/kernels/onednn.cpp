// oneDNN's matmul as a peer: weights in its own layout, reordered once. Its results are exact too,
// so they are compared with the scalar kernel's bit for bit:
//   s32  the accumulators;
//   u8   its epilogue is float, 2^-s * (acc + 1/2) + 128: with s <= 14 nothing is rounded before
//        the end, and the half keeps every value away from ties, where its rule differs from ours;
//   f32  the same integers as floats, whose sums stay below 2^24.
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "bench/kernels/entries.h"
#include "bench/kernels/operands.h"

namespace intaglio::bench {
namespace {

using dnnl::memory;
using Type = memory::data_type;

enum class Variant { kS32, kU8, kF32 };

struct Formats {
  Type src, weight, dst;
};
Formats formats_of(Variant variant) {
  switch (variant) {
    case Variant::kS32:
      return {Type::u8, Type::s8, Type::s32};
    case Variant::kU8:
      return {Type::u8, Type::s8, Type::u8};
    case Variant::kF32:
      break;
  }
  return {Type::f32, Type::f32, Type::f32};
}

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

template <class T>
memory copied(const memory::desc& desc, const std::vector<T>& values) {
  memory m(desc, cpu());
  std::memcpy(m.get_data_handle(), values.data(), values.size() * sizeof(T));
  return m;
}

/// `values` as T or, where the type is f32, as floats.
template <class T>
memory operand(const memory::desc& desc, const std::vector<T>& values) {
  if (desc.data_type() == Type::f32) {
    return copied(desc, std::vector<float>(values.begin(), values.end()));
  }
  return copied(desc, values);
}

class Matmul {
 public:
  Matmul(const GemmShape& shape, Variant variant) : stream_(cpu()) {
    const auto m = static_cast<memory::dim>(shape.m);
    const auto k = static_cast<memory::dim>(shape.k);
    const auto n = static_cast<memory::dim>(shape.n);
    const Formats formats = formats_of(variant);
    const memory::desc src({m, k}, formats.src, memory::format_tag::ab);
    const memory::desc plain({k, n}, formats.weight, memory::format_tag::ba);
    const memory::desc any({k, n}, formats.weight, memory::format_tag::any);
    const memory::desc dst({m, n}, formats.dst, memory::format_tag::ab);
    dnnl::primitive_attr attributes;
    std::unique_ptr<dnnl::matmul::desc> desc;
    if (variant == Variant::kU8) {
      const memory::desc bias({1, n}, Type::f32, memory::format_tag::ab);
      const float scale = 1.0F / static_cast<float>(1 << spread_shift(shape.k));
      attributes.set_output_scales(2, std::vector<float>(shape.n, scale));
      attributes.set_zero_points(DNNL_ARG_DST, 0, {128});
      arguments_.insert({DNNL_ARG_BIAS, copied(bias, std::vector<float>(shape.n, 0.5F))});
      desc = std::make_unique<dnnl::matmul::desc>(src, any, bias, dst);
    } else {
      desc = std::make_unique<dnnl::matmul::desc>(src, any, dst);
    }
    const dnnl::matmul::primitive_desc chosen(*desc, attributes, cpu());
    matmul_ = dnnl::matmul(chosen);

    const GemmOperands operands = gemm_operands(shape);
    memory given = operand(plain, operands.weight);
    memory packed(chosen.weights_desc(), cpu());
    dnnl::reorder(given, packed).execute(stream_, given, packed);
    arguments_.insert({DNNL_ARG_SRC, operand(src, operands.src)});
    arguments_.insert({DNNL_ARG_WEIGHTS, packed});
    arguments_.insert({DNNL_ARG_DST, memory(dst, cpu())});
    stream_.wait();
  }

  void run() {
    matmul_.execute(stream_, arguments_);
    stream_.wait();
  }

  /// Floats come back as the integers that they are.
  std::vector<std::byte> result() const {
    const memory& dst = arguments_.at(DNNL_ARG_DST);
    std::vector<std::byte> bytes(dst.get_desc().get_size());
    std::memcpy(bytes.data(), dst.get_data_handle(), bytes.size());
    if (dst.get_desc().data_type() == Type::f32) {
      for (std::size_t i = 0; i < bytes.size(); i += 4) {
        float real = 0;
        std::memcpy(&real, &bytes[i], 4);
        const auto whole = static_cast<std::int32_t>(real);
        std::memcpy(&bytes[i], &whole, 4);
      }
    }
    return bytes;
  }

 private:
  dnnl::stream stream_;
  dnnl::matmul matmul_;
  std::unordered_map<int, memory> arguments_;
};

/// The scalar kernel's result in the form that a variant has.
std::vector<std::byte> expected_result(GemmShape shape, Variant variant) {
  GemmScaling scaling = {2, 0, 1, 0};  // the accumulator itself
  shape.output = kernels::CodeType::kS32;
  if (variant == Variant::kU8) {
    const int s = spread_shift(shape.k);
    scaling = {2, 1 + (std::int64_t{1} << s), s + 1, 128};  // (acc + 1/2) / 2^s, rounded
    shape.output = kernels::CodeType::kU8;
  }
  const Prepared scalar = prepare_gemm(shape, scaling, kernels::scalar_table());
  scalar.run();
  return scalar.result();
}

}  // namespace

std::vector<Entry> onednn_entries() {
  struct Named {
    const char* name;
    Variant variant;
  };
  std::vector<Entry> entries;
  for (const GemmShape& shape : gemm_shapes()) {
    for (const auto& [name, variant] : {Named{"onednn_s32", Variant::kS32},
                                        {"onednn_u8", Variant::kU8},
                                        {"onednn_f32", Variant::kF32}}) {
      const auto prepare = [shape, v = variant] {
        const auto matmul = std::make_shared<Matmul>(shape, v);
        return Prepared{[matmul] { matmul->run(); }, [matmul] { return matmul->result(); }};
      };
      entries.push_back({kPlainGemm, shape.name(), name, kernels::best_isa(), shape.macs(), 0,
                         prepare, [shape, v = variant] { return expected_result(shape, v); }});
    }
  }
  return entries;
}

}  // namespace intaglio::bench
