// The small Swin that the authors' code has calibrated: images of 56 x 56, two stages of 32 and 64
// channels, windows of 7 on maps of 14 x 14 and 7 x 7 tokens.
#pragma once

#include <utility>

#include "bench/own_form.h"
#include "converters/fqvit_import.h"
#include "converters/lower_network.h"

namespace intaglio::test {

/// In the paper's form, or in our own.
inline Graph swin_micro(bool own) {
  CalibratedNetwork imported =
      import_fqvit(Safetensors::open(INTAGLIO_TEST_DATA "/swin_micro/model.safetensors"));
  if (own) imported = own_form(std::move(imported));
  return lower(imported.network, imported.calibration, {});
}

}  // namespace intaglio::test
