// JSON that was read, to be looked at. Unlike nlohmann's values, these are destroyed without taking
// memory: an allocation that fails while another one's exception is on its way ends the process.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace intaglio {

class JsonValue {
 public:
  using Array = std::vector<JsonValue>;
  struct Object;

  /// Throws Error(kFormat) that begins with `place`.
  static JsonValue parse(std::string_view text, const std::string& place);

  // Nothing where it is something else.
  const Array* array() const { return pointee<Array>(); }
  const Object* object() const { return pointee<Object>(); }
  const std::string* string() const { return pointee<std::string>(); }
  std::optional<double> number() const;  ///< an integer, too
  std::optional<std::int64_t> integer() const;

 private:
  class Builder;

  template <typename T>
  T* pointee() const {
    const auto* pointer = std::get_if<std::unique_ptr<T>>(&value_);
    return pointer == nullptr ? nullptr : pointer->get();
  }

  // Pointers, so that a list of numbers takes little.
  std::variant<std::monostate, bool, std::int64_t, double, std::unique_ptr<std::string>,
               std::unique_ptr<Array>, std::unique_ptr<Object>>
      value_;
};

struct JsonValue::Object : std::map<std::string, JsonValue, std::less<>> {};

}  // namespace intaglio
