// Float networks that must be the same, bit for bit.
#pragma once

#include "converters/network.h"

namespace intaglio::test {

void check_equal(const FloatLinear& a, const FloatLinear& b);
/// All but epsilon.
void check_equal(const FloatNorm& a, const FloatNorm& b);
/// Sizes, names and parameters of all layers, and features.
void check_equal(const Network& a, const Network& b);

}  // namespace intaglio::test
