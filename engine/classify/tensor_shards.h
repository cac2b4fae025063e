// Logits and features of many images: safetensors files of a fixed number of rows,
// PREFIX-00000.safetensors and so on.
//
// A file is written when its last row is there, beside its place, and then renamed: what has the
// name is whole. So a run that goes on computes anew from the first row that is in no whole file;
// the last file of a finished run, with fewer rows, is made again with the same content.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "graph/safetensors.h"

namespace intaglio {

struct ShardTensor {
  std::string name;
  DType dtype = DType::kS32;
  std::vector<std::size_t> row_shape;

  std::size_t row_bytes() const;
};

class TensorShards {
 public:
  /// `facts` become metadata of each file, beside rows_per_file, "paths" (JSON list of names) and
  /// "failed" (JSON list of rows that are zero because there was an error).
  TensorShards(std::string prefix, std::vector<ShardTensor> tensors,
               std::map<std::string, std::string> facts, std::size_t rows_per_file);

  /// Deals with files of an earlier run that is not to be continued. Throws
  /// Error(kInvalidArgument) unless they may be removed.
  void clear(bool remove) const;
  /// Rows in whole files, from the first on. Throws Error(kInvalidArgument) for files of another
  /// model or with other tensors.
  std::size_t complete_rows() const;
  /// Throws Error(kInvalidArgument) unless a whole file has `name` in that row.
  void check_name(std::size_t row, const std::string& name);

  /// The first row that append() gives, a multiple of the rows per file.
  void start(std::size_t row) { file_ = row / rows_per_file_; }
  /// Whether the next row makes a file whole.
  bool almost_full() const { return names_.size() + 1 == rows_per_file_; }
  /// One row: of each tensor its bytes. Throws Error(kIo).
  void append(const std::string& name, bool failed,
              const std::vector<std::span<const std::byte>>& rows);
  /// Writes the last rows.
  void finish();

 private:
  std::filesystem::path path_of(std::size_t file) const;
  std::vector<std::filesystem::path> files() const;
  void write();

  std::string prefix_;
  std::vector<ShardTensor> tensors_;
  std::map<std::string, std::string> facts_;
  std::size_t rows_per_file_;
  std::size_t file_ = 0;                      // the number of the next one
  std::vector<std::vector<std::byte>> data_;  // its rows so far, of each tensor
  std::vector<std::string> names_;
  std::vector<std::size_t> failed_;
  std::vector<std::string> checked_;  // names in the file that check_name() saw last
  std::size_t checked_file_ = 0;
};

}  // namespace intaglio
