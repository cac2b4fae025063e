// What the schemes of names of different models have in common.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "converters/checkpoint.h"

namespace intaglio {

/// Modules of a transformer block.
struct BlockNames {
  std::string norm1, proj, norm2, fc1, fc2;
  std::vector<std::string> qkv;            ///< one module for all, or one each
  std::string scale_attention, scale_mlp;  ///< layer scale, tensors; empty: none
};

/// Those of Hugging Face's transformers, with q, k, v in the module `attention`, which ends in a
/// dot.
BlockNames hugging_face_block(const std::string& attention);

/// A part of names that belongs to relatives of a model which compute something else.
struct RelativeName {
  const char* piece;
  const char* what;
};

/// Whether any tensor's name begins and ends like this.
bool has_any(const Checkpoint& checkpoint, const std::string& prefix,
             const std::string& ending = "");
/// Throws Error(kUnsupported) for a name with one of the pieces, unless it is `ignored`.
void refuse_relatives(const Checkpoint& checkpoint, std::span<const RelativeName> relatives,
                      const std::function<bool(const std::string&)>& ignored);
/// Throws Error(kUnsupported) that shows some of the names.
[[noreturn]] void fail_unrecognized(const Checkpoint& checkpoint);

}  // namespace intaglio
