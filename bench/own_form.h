// A model in the form that our own quantizer makes, of one in the paper's.
#pragma once

#include "converters/fqvit_import.h"

namespace intaglio {

/// Streams are s16 with a scale for each stage, products are added to them directly, a bias to
/// sums, codes of attention are relative to the row's maximum, and GELU's have powers of two.
CalibratedNetwork own_form(CalibratedNetwork model);

}  // namespace intaglio
