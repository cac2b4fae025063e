// Python pickles, read as data: objects are described, never made, and nothing is executed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace intaglio {

/// What a pickle of protocol 2 to 5 describes. Values refer to each other by index; they may share
/// parts and form cycles. Memory is a small multiple of the pickle's size.
class Pickle {
 public:
  using Index = std::uint32_t;

  enum class Kind : std::uint8_t {
    kNone,
    kBool,        ///< integer
    kInt,         ///< integer
    kNumber,      ///< any other number; its value is not kept
    kString,      ///< text, UTF-8 if the file is honest
    kBytes,       ///< text
    kList,        ///< items
    kTuple,       ///< items
    kSet,         ///< its items are not kept
    kDict,        ///< items: key, value, key, value, ...
    kGlobal,      ///< text of module: a class or function
    kCall,        ///< items: what would be called, its arguments (normally a tuple)
    kPersistent,  ///< items: the id by which the pickle refers to something outside
  };
  struct Value {
    Kind kind = Kind::kNone;
    std::int64_t integer = 0;
    std::string_view text, module;
    std::vector<Index> items;
  };

  /// Reads a whole pickle. `name` stands in messages. An OrderedDict is a kDict; the state that
  /// objects are given beside their arguments is dropped. Throws Error(kFormat) for what is no
  /// pickle, Error(kUnsupported) for opcodes of the text protocols 0 and 1, Error(kLimit) beyond
  /// 250000 values or a thousand open marks.
  static Pickle parse(std::vector<std::byte> bytes, const std::string& name);

  const Value& root() const { return values_[root_]; }
  const Value& at(Index index) const { return values_[index]; }
  /// The last value under this string key of a kDict; null when absent.
  const Value* find(const Value& dict, std::string_view key) const;
  /// "a list", "an object of 'argparse.Namespace'", for messages.
  std::string describe(const Value& value) const;
  bool is_global(const Value& value, std::string_view module, std::string_view name) const;

 private:
  friend class PickleReader;

  std::vector<std::byte> bytes_;  // what the texts are views of
  std::vector<Value> values_;
  Index root_ = 0;
};

}  // namespace intaglio
