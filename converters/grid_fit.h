// Sums over float values and the codes that stand for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "converters/accuracy.h"

namespace intaglio {

/// What codes mean: step[channel] * (code - zero). Unlike a Grid's, the zero point may lie between
/// two codes: that of raw pixels does.
struct CodeMeaning {
  std::vector<double> step;  ///< [channels]
  double zero = 0;
  DType dtype = DType::kU8;

  double lowest_code() const;
  double highest_code() const;
};
CodeMeaning meaning_of(const Grid& grid, DType dtype, std::size_t channels);

/// Of some values; those of several images are merged.
class FitSums {
 public:
  /// `reals` and `codes` [rows, channels], codes of meaning.dtype.
  void add(const CodeMeaning& meaning, std::span<const float> reals, const std::byte* codes);
  void merge(const FitSums& other);
  GridFit result(const CodeMeaning& meaning) const;

 private:
  template <typename Code>
  void add_codes(const CodeMeaning& meaning, std::span<const float> reals, const Code* codes);

  std::size_t count_ = 0, below_ = 0, above_ = 0;
  double signal_ = 0, error_ = 0, local_error_ = 0;
  double low_ = 0, high_ = 0;
  std::vector<std::uint8_t> used_;  ///< per code, from the lowest: whether it occurred; not of s32
};

/// signal / error in dB; infinite without an error.
double decibels(double signal, double error);

}  // namespace intaglio
