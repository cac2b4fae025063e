#include "converters/expected_tensors.h"

#include <set>
#include <utility>

#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {

void ExpectedTensors::expect(std::string tensor, Shape shape, Sink take) {
  expected_.push_back({std::move(tensor), std::move(shape), std::move(take)});
}

void ExpectedTensors::check(const std::function<bool(const std::string&)>& ignored,
                            const std::string& model) const {
  const std::string& file = checkpoint_.name();
  std::set<std::string> known;
  std::size_t missing = 0;
  const Expected* first = nullptr;
  for (const Expected& e : expected_) {
    known.insert(e.tensor);
    if (checkpoint_.has(e.tensor)) continue;
    if (missing++ == 0) first = &e;
  }
  if (first != nullptr) {
    throw Error(ErrorCode::kFormat,
                file + ": tensor '" + first->tensor + "' is missing" +
                    (missing == 1 ? "" : ", and " + std::to_string(missing - 1) + " more"));
  }
  for (const Expected& e : expected_) {
    const Shape& found = checkpoint_.shapes().at(e.tensor);
    if (found != e.shape) {
      throw Error(ErrorCode::kFormat, file + ": tensor '" + e.tensor + "': expected " +
                                          describe_shape(e.shape) + ", found " +
                                          describe_shape(found));
    }
  }
  for (const auto& [tensor, shape] : checkpoint_.shapes()) {
    if (!known.contains(tensor) && !ignored(tensor)) {
      throw Error(ErrorCode::kUnsupported,
                  file + ": tensor " + printable(tensor) + " is no part of " + model);
    }
  }
}

void ExpectedTensors::load() const {
  for (const Expected& e : expected_) e.take(checkpoint_.read(e.tensor));
}

std::string describe_shape(const ExpectedTensors::Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace intaglio
