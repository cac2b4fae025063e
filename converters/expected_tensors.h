// The tensors that a network needs of a checkpoint: first all are checked, then they are read.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "converters/checkpoint.h"

namespace intaglio {

class ExpectedTensors {
 public:
  using Shape = std::vector<std::size_t>;
  using Sink = std::function<void(const std::vector<float>&)>;

  explicit ExpectedTensors(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  /// `take` gets the elements, row-major, when load() comes to this tensor.
  void expect(std::string tensor, Shape shape, Sink take);
  /// Throws Error(kFormat) for tensors that are missing (the first, and how many more) or
  /// misshapen, Error(kUnsupported) for one that is neither expected nor `ignored`, and so no part
  /// of `model`.
  void check(const std::function<bool(const std::string&)>& ignored,
             const std::string& model) const;
  /// Reads in the order of expect(), one tensor at a time. Throws what Checkpoint::read() does.
  void load() const;

 private:
  struct Expected {
    std::string tensor;
    Shape shape;
    Sink take;
  };

  const Checkpoint& checkpoint_;
  std::vector<Expected> expected_;
};

/// "[192, 3, 16, 16]", for messages.
std::string describe_shape(const ExpectedTensors::Shape& shape);

}  // namespace intaglio
