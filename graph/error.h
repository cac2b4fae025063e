// Errors of the outside world: files, images, arguments, CPUs. Programming errors are asserts.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/api.h"

namespace intaglio {

/// What kind of thing was wrong. Programs map these to exit statuses.
enum class ErrorCode {
  kInvalidArgument,  ///< a call or command line asked for something impossible
  kIo,               ///< a file could not be opened, read, written or renamed
  kFormat,           ///< bytes that are not what their format demands
  kIntegrity,        ///< a model file whose checksum does not match
  kUnsupported,      ///< well-formed, but nothing this version can do
  kLimit,            ///< larger than a stated limit
};

/// The one exception type that leaves the library. The message names the file or tensor, what was
/// expected and what was found.
class INTAGLIO_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace intaglio
