// The files of logits and features of a run.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/classify/batch.h"
#include "engine/classify/tensor_shards.h"

namespace intaglio {

class BatchTensors {
 public:
  BatchTensors(const BatchOptions& options, const Model& model);

  bool any() const { return !shards_.empty(); }
  /// A job with buffers for all that is wanted.
  const Job& empty_job() const { return empty_; }
  /// Deals with files of another run.
  void clear(bool remove) const;
  /// How many of the first `rows` need not be computed: they are in whole files of all kinds.
  std::size_t skippable(std::size_t rows) const;
  void check_name(std::size_t row, const std::string& name);
  void start(std::size_t row);
  /// Whether append() will write files.
  bool almost_full() const;
  void append(const Job& job);
  void finish();

 private:
  std::vector<TensorShards> shards_;  // logits, features, as far as they are wanted
  std::vector<bool> of_logits_;
  std::size_t rows_per_file_ = 0;
  Job empty_;
};

}  // namespace intaglio
