#include "kernels/kernels.h"
#include "kernels/scalar/scalar.h"

namespace intaglio::kernels {

const KernelTable& scalar_table() noexcept {
  static constexpr KernelTable kTable = {
      .isa = Isa::kScalar,
      .gemm_packed_bytes = scalar::gemm_packed_bytes,
      .gemm_pack = scalar::gemm_pack,
      .gemm_u8s8 = scalar::gemm_u8s8,
      .softmax_prepare = scalar::softmax_prepare,
      .attention_scratch_bytes = scalar::attention_scratch_bytes,
      .attention = scalar::attention,
      .attention_bitshift = scalar::attention,
      .layernorm_ptf = scalar::layernorm_ptf,
      .gelu_table = scalar::gelu_table,
      .mean_rows = scalar::mean_rows,
      .residual_add = scalar::residual_add,
      .add_s16 = scalar::add_s16,
      .pixels_to_patches = scalar::pixels_to_patches,
      .lookup_u8 = scalar::lookup_u8,
      .peak_mac = scalar::peak_mac,
      .peak_macs_per_round = scalar::kPeakMacsPerRound,
  };
  return kTable;
}

}  // namespace intaglio::kernels
