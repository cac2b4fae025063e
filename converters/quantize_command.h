// intaglio-convert quantize: from a float checkpoint and photos to a model.
#pragma once

#include "converters/quantize_options.h"

namespace intaglio {

/// Prints what was chosen and what came of it. The exit status; throws Error.
int run_quantize(QuantizeArguments arguments);

}  // namespace intaglio
