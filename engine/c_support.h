// What the C functions of both libraries share: errors become statuses and a message of the thread,
// structs of other versions are read and written. Each library has a copy of its own.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <exception>
#include <new>
#include <string>

#include "engine/c_api.h"
#include "engine/c_image.h"
#include "engine/image.h"
#include "graph/error.h"
#include "graph/preprocessing.h"

namespace intaglio::c {

/// The latest error of a thread. No allocation: there may be no memory.
class LastError {
 public:
  const char* what() const noexcept { return what_.data(); }
  void set(const char* what) noexcept {
    const std::size_t size = std::min(std::strlen(what), what_.size() - 1);
    std::memcpy(what_.data(), what, size);
    what_[size] = '\0';
  }

 private:
  std::array<char, 2048> what_{};
};

inline intaglio_status status_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return INTAGLIO_INVALID_ARGUMENT;
    case ErrorCode::kIo:
      return INTAGLIO_IO;
    case ErrorCode::kFormat:
      return INTAGLIO_FORMAT;
    case ErrorCode::kIntegrity:
      return INTAGLIO_INTEGRITY;
    case ErrorCode::kUnsupported:
      return INTAGLIO_UNSUPPORTED;
    case ErrorCode::kLimit:
      return INTAGLIO_LIMIT;
  }
  return INTAGLIO_UNKNOWN;
}

/// Runs the body of a C function, `call`, from which nothing is thrown further.
template <typename Call>
intaglio_status guarded(LastError& error, const Call& call) noexcept {
  try {
    call();
    return INTAGLIO_OK;
  } catch (const Error& e) {
    error.set(e.what());
    return status_of(e.code());
  } catch (const std::bad_alloc&) {
    error.set("out of memory");
    return INTAGLIO_OUT_OF_MEMORY;
  } catch (const std::exception& e) {
    error.set(e.what());
  } catch (...) {
    error.set("an exception of unknown type");
  }
  return INTAGLIO_UNKNOWN;
}

[[noreturn]] inline void refuse(const std::string& what,
                                ErrorCode code = ErrorCode::kInvalidArgument) {
  throw Error(code, what);
}

/// `pointer`, an argument called `name`, which may not be null.
template <typename T>
T& required(T* pointer, const char* name) {
  if (pointer == nullptr) refuse(std::string(name) + " is NULL");
  return *pointer;
}

/// An array of the caller's may be null only where it is empty.
template <typename T>
T* required_array(T* pointer, std::size_t count, const char* name) {
  if (count != 0) required(pointer, name);
  return pointer;
}

/// Larger than any struct of ours will be: a size beyond is no size.
inline constexpr std::size_t kMaxStructSize = 4096;

/// Of a struct that may end before a T does, and is therefore no T to us.
inline std::size_t struct_size_of(const void* given, const char* name) {
  std::size_t size;
  std::memcpy(&size, given, sizeof size);
  if (size < sizeof size || size > kMaxStructSize) {
    refuse(std::string(name) + ": struct_size is " + std::to_string(size) +
           "; its INIT macro sets it");
  }
  return size;
}

/// Options as this version knows them: members that the caller's version lacks are 0, and what this
/// one lacks must be.
template <typename T>
T read_struct(const void* given, const char* name) {
  const std::size_t size = struct_size_of(given, name);
  const auto* bytes = static_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(T); i < size; ++i) {
    if (bytes[i] != 0) {
      refuse(std::string(name) + ": an option that this version does not know",
             ErrorCode::kUnsupported);
    }
  }
  T known;
  std::memset(&known, 0, sizeof known);
  std::memcpy(&known, given, std::min(size, sizeof known));
  return known;
}

/// The same where null stands for the defaults.
template <typename T>
T read_options(const T* given, const char* name) {
  if (given != nullptr) return read_struct<T>(given, name);
  T defaults;
  std::memset(&defaults, 0, sizeof defaults);
  return defaults;
}

/// Gives the caller what its version has room for; what only its version knows becomes 0.
template <typename T>
void write_struct(T values, void* to, const char* name) {
  if (to == nullptr) refuse(std::string(name) + " is NULL");
  const std::size_t size = struct_size_of(to, name);
  values.struct_size = size;
  std::memcpy(to, &values, std::min(size, sizeof values));
  auto* bytes = static_cast<unsigned char*>(to);
  for (std::size_t i = sizeof values; i < size; ++i) bytes[i] = 0;
}

inline ImageView image_view(const intaglio_image_view& image) {
  if (image.format < INTAGLIO_RGB || image.format > INTAGLIO_GREY) {
    refuse("an image has the unknown pixel format " + std::to_string(image.format));
  }
  return {image.data, image.width, image.height, image.stride,
          static_cast<PixelFormat>(image.format)};
}

inline Preprocessing read_preprocessing(const intaglio_preprocessing* given) {
  if (given == nullptr) refuse("preprocessing is NULL");
  const auto values = read_struct<intaglio_preprocessing>(given, "preprocessing");
  if (values.interpolation != INTAGLIO_BILINEAR && values.interpolation != INTAGLIO_BICUBIC) {
    refuse("preprocessing: the unknown interpolation " + std::to_string(values.interpolation));
  }
  Preprocessing preprocessing;
  preprocessing.resize = values.resize;
  preprocessing.height = values.height;
  preprocessing.width = values.width;
  preprocessing.interpolation = static_cast<Interpolation>(values.interpolation);
  std::copy_n(values.mean, 3, preprocessing.mean.begin());
  std::copy_n(values.std, 3, preprocessing.std.begin());
  return preprocessing;
}

// What lies behind a struct's last member belongs to the members of later versions, and need not be
// 0: no padding may hide it.
#define INTAGLIO_ENDS_WITH(type, member) \
  (offsetof(type, member) + sizeof(type::member) == sizeof(type))
static_assert(INTAGLIO_ENDS_WITH(intaglio_preprocessing, std));
static_assert(INTAGLIO_ENDS_WITH(intaglio_load_options, threads));
static_assert(INTAGLIO_ENDS_WITH(intaglio_model_info, isa));
static_assert(INTAGLIO_ENDS_WITH(intaglio_session_options, allocator_context));
static_assert(INTAGLIO_ENDS_WITH(intaglio_feature, exponents));
static_assert(INTAGLIO_ENDS_WITH(intaglio_decode_options, as_stored));
#undef INTAGLIO_ENDS_WITH

static_assert(static_cast<int>(PixelFormat::kRgb) == INTAGLIO_RGB &&
              static_cast<int>(PixelFormat::kBgr) == INTAGLIO_BGR &&
              static_cast<int>(PixelFormat::kRgba) == INTAGLIO_RGBA &&
              static_cast<int>(PixelFormat::kBgra) == INTAGLIO_BGRA &&
              static_cast<int>(PixelFormat::kGrey) == INTAGLIO_GREY);
static_assert(static_cast<int>(Interpolation::kBilinear) == INTAGLIO_BILINEAR &&
              static_cast<int>(Interpolation::kBicubic) == INTAGLIO_BICUBIC);

}  // namespace intaglio::c
