#include "converters/float_import.h"

#include <utility>

#include "converters/float_importer.h"
#include "converters/swin_names.h"

namespace intaglio {

Network network_of(ImportedModel imported) {
  return std::visit([](auto& model) { return network_of(std::move(model)); }, imported.model);
}

ImportedModel import_float(const Checkpoint& checkpoint, const FloatImportOptions& options) {
  return has_swin_names(checkpoint) ? import_swin(checkpoint, options)
                                    : import_vit(checkpoint, options);
}

}  // namespace intaglio
