#include "graph/json_value.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "graph/error.h"

namespace intaglio {
namespace {

using nlohmann::json;

/// Recursion, such as the destructor's, is no deeper.
constexpr std::size_t kMaxDepth = 16;
constexpr std::size_t kShownBytes = 40;  // of a name that the file gives
constexpr int kOutOfRange = 406;         // the parser's number of that error

}  // namespace

/// Takes the parser's events. None returns false: they throw.
class JsonValue::Builder {
 public:
  Builder(const std::string& place, JsonValue& root) : place_(place), root_(root) {}

  bool null() { return add(std::monostate()); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(std::int64_t value) { return add(value); }
  bool number_unsigned(std::uint64_t value) {
    if (std::in_range<std::int64_t>(value)) return add(static_cast<std::int64_t>(value));
    return add(static_cast<double>(value));
  }
  bool number_float(double value, const std::string&) { return add(value); }
  bool string(std::string& text) { return add(std::make_unique<std::string>(std::move(text))); }
  bool binary(json::binary_t&) { fail("expected text, found binary data"); }
  bool start_array(std::size_t) { return open(std::make_unique<Array>()); }
  bool end_array() { return close(); }
  bool start_object(std::size_t) { return open(std::make_unique<Object>()); }
  bool end_object() { return close(); }
  bool key(std::string& key) {
    key_ = std::move(key);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const json::exception& e) {
    if (e.id == kOutOfRange) fail("a number is out of range");
    // The exception's own text quotes the file.
    fail("expected valid JSON, found an error at byte " + std::to_string(position));
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kFormat, place_ + ": " + what);
  }

  /// Where the next value goes. Of a list or an object that is open nothing moves: it is the last
  /// of those around it.
  JsonValue& place_for_next() {
    if (open_.empty()) return root_;
    if (Array* array = open_.back()->pointee<Array>()) return array->emplace_back();
    const auto [field, added] = open_.back()->pointee<Object>()->try_emplace(std::move(key_));
    if (!added) fail("field '" + key_.substr(0, kShownBytes) + "' is there twice");
    return field->second;
  }
  template <typename T>
  bool add(T value) {
    place_for_next().value_ = std::move(value);
    return true;
  }
  template <typename T>
  bool open(T value) {
    if (open_.size() == kMaxDepth) fail("nested too deeply");
    JsonValue& opened = place_for_next();
    opened.value_ = std::move(value);
    open_.push_back(&opened);
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& place_;
  JsonValue& root_;
  std::vector<JsonValue*> open_;
  std::string key_;
};

JsonValue JsonValue::parse(std::string_view text, const std::string& place) {
  JsonValue root;
  Builder builder(place, root);
  json::sax_parse(text.begin(), text.end(), &builder);
  return root;
}

std::optional<double> JsonValue::number() const {
  if (const auto* integer = std::get_if<std::int64_t>(&value_)) {
    return static_cast<double>(*integer);
  }
  const auto* real = std::get_if<double>(&value_);
  return real == nullptr ? std::nullopt : std::optional(*real);
}

std::optional<std::int64_t> JsonValue::integer() const {
  const auto* integer = std::get_if<std::int64_t>(&value_);
  return integer == nullptr ? std::nullopt : std::optional(*integer);
}

}  // namespace intaglio
