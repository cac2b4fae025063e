// A model as our own quantizer makes it, of one that the authors' code has calibrated.
#pragma once

#include "converters/fqvit_import.h"

namespace intaglio::test {

/// Streams are s16 with a scale for each of them, products are added to them directly, a bias to
/// sums, and codes of attention are relative to the row's maximum.
CalibratedNetwork own_form(CalibratedNetwork model);

}  // namespace intaglio::test
