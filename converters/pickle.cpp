#include "converters/pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>

#include "graph/error.h"
#include "graph/safetensors.h"

namespace intaglio {

// Opcodes are from Python's documentation of the module pickletools.
class PickleReader {
 public:
  PickleReader(Pickle& pickle, const std::string& name) : pickle_(pickle), name_(name) {}

  void run() {
    for (;;) {
      const std::uint8_t op = take_byte();
      if (op == '.') break;
      if (!read_atom(op) && !read_text(op) && !read_container(op) && !read_object(op) &&
          !read_stack(op)) {
        fail("expected an opcode of protocol 2 to 5, found " + std::to_string(op),
             ErrorCode::kUnsupported);
      }
    }
    if (stack_.size() != 1 || !marks_.empty()) fail("expected one value, found more or none");
    if (at_ != pickle_.bytes_.size()) fail("expected its end, found more bytes");
    pickle_.root_ = stack_.back();
  }

 private:
  using Index = Pickle::Index;
  using Kind = Pickle::Kind;
  using Value = Pickle::Value;

  // A ViT's checkpoint with its optimizer's state has some ten thousand values.
  static constexpr std::size_t kMaxValues = 250'000;
  static constexpr std::size_t kMaxMarks = 1000;

  [[noreturn]] void fail(const std::string& what, ErrorCode code = ErrorCode::kFormat) const {
    throw Error(code, name_ + ": pickle, byte " + std::to_string(at_) + ": " + what);
  }

  std::string_view take(std::uint64_t size) {
    if (size > pickle_.bytes_.size() - at_) {
      fail("expected " + std::to_string(size) + " bytes, found its end");
    }
    const char* begin = reinterpret_cast<const char*>(pickle_.bytes_.data()) + at_;
    at_ += size;
    return {begin, static_cast<std::size_t>(size)};
  }
  std::uint8_t take_byte() { return static_cast<std::uint8_t>(take(1)[0]); }
  /// A little-endian number of `size` bytes, at most 8.
  std::uint64_t take_unsigned(std::size_t size) {
    std::uint64_t number = 0;
    std::memcpy(&number, take(size).data(), size);
    return number;
  }
  std::string_view take_line() {
    const char* begin = reinterpret_cast<const char*>(pickle_.bytes_.data()) + at_;
    const std::string_view rest(begin, pickle_.bytes_.size() - at_);
    const std::size_t end = rest.find('\n');
    if (end == std::string_view::npos) fail("expected a line, found its end");
    at_ += end + 1;
    return rest.substr(0, end);
  }

  void push_index(Index index) {
    if (stack_.size() == kMaxValues) fail("expected at most 250000 values", ErrorCode::kLimit);
    stack_.push_back(index);
  }
  void push(Value value) {
    if (pickle_.values_.size() == kMaxValues) {
      fail("expected at most 250000 values", ErrorCode::kLimit);
    }
    pickle_.values_.push_back(std::move(value));
    push_index(static_cast<Index>(pickle_.values_.size() - 1));
  }
  Index top() const {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
      fail("expected a value on the stack, found none");
    }
    return stack_.back();
  }
  Value& top_value() { return pickle_.values_[top()]; }
  Index pop() {
    const Index index = top();
    stack_.pop_back();
    return index;
  }
  /// The last `count` values, which leave the stack.
  std::vector<Index> pop_items(std::size_t count) {
    std::vector<Index> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    return items;
  }
  std::vector<Index> pop_to_mark() {
    if (marks_.empty()) fail("expected a mark on the stack, found none");
    std::vector<Index> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()),
                             stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }

  bool read_atom(std::uint8_t op) {
    const auto integer = [this](std::int64_t value) { push({Kind::kInt, value, {}, {}, {}}); };
    switch (op) {
      case 'N':
        push({});
        return true;
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        push({Kind::kBool, op == 0x88 ? 1 : 0, {}, {}, {}});
        return true;
      case 'J':
        integer(static_cast<std::int32_t>(take_unsigned(4)));
        return true;
      case 'K':
        integer(static_cast<std::int64_t>(take_unsigned(1)));
        return true;
      case 'M':
        integer(static_cast<std::int64_t>(take_unsigned(2)));
        return true;
      case 0x8a:  // LONG1
        read_long(take_unsigned(1));
        return true;
      case 0x8b:  // LONG4
        read_long(take_unsigned(4));
        return true;
      case 'G':
        take(8);
        push({Kind::kNumber, 0, {}, {}, {}});
        return true;
      default:
        return false;
    }
  }

  /// A two's complement number of `size` bytes.
  void read_long(std::uint64_t size) {
    const std::string_view bytes = take(size);
    if (size > sizeof(std::int64_t)) return push({Kind::kNumber, 0, {}, {}, {}});
    std::int64_t value = !bytes.empty() && static_cast<signed char>(bytes.back()) < 0 ? -1 : 0;
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
    push({Kind::kInt, value, {}, {}, {}});
  }

  bool read_text(std::uint8_t op) {
    struct Form {
      std::uint8_t op;
      std::uint8_t length_bytes;
      Kind kind;
    };
    // Python 2's strings (T, U) are what Python 3 calls strings: names.
    static constexpr std::array<Form, 9> kForms = {{{'X', 4, Kind::kString},
                                                    {0x8c, 1, Kind::kString},
                                                    {0x8d, 8, Kind::kString},
                                                    {'T', 4, Kind::kString},
                                                    {'U', 1, Kind::kString},
                                                    {'B', 4, Kind::kBytes},
                                                    {'C', 1, Kind::kBytes},
                                                    {0x8e, 8, Kind::kBytes},
                                                    {0x96, 8, Kind::kBytes}}};
    const auto* form = std::ranges::find(kForms, op, &Form::op);
    if (form == kForms.end()) return false;
    const std::uint64_t length = take_unsigned(form->length_bytes);
    push({form->kind, 0, take(length), {}, {}});
    return true;
  }

  bool read_container(std::uint8_t op) {
    const auto container = [this](Kind kind, std::vector<Index> items) {
      push({kind, 0, {}, {}, std::move(items)});
    };
    switch (op) {
      case '}':
        container(Kind::kDict, {});
        return true;
      case ']':
        container(Kind::kList, {});
        return true;
      case ')':
        container(Kind::kTuple, {});
        return true;
      case 0x85:  // TUPLE1
      case 0x86:  // TUPLE2
      case 0x87:  // TUPLE3
        container(Kind::kTuple, pop_items(op - 0x84U));
        return true;
      case 't':
        container(Kind::kTuple, pop_to_mark());
        return true;
      case 'l':
        container(Kind::kList, pop_to_mark());
        return true;
      case 'd':
        container(Kind::kDict, even(pop_to_mark()));
        return true;
      case 0x8f:  // EMPTY_SET
        container(Kind::kSet, {});
        return true;
      case 0x91:  // FROZENSET
        pop_to_mark();
        container(Kind::kSet, {});
        return true;
      default:
        return read_filling(op);
    }
  }

  /// What adds to the container below.
  bool read_filling(std::uint8_t op) {
    switch (op) {
      case 'a':
        extend(Kind::kList, pop_items(1));
        return true;
      case 'e':
        extend(Kind::kList, pop_to_mark());
        return true;
      case 's':
        extend(Kind::kDict, pop_items(2));
        return true;
      case 'u':
        extend(Kind::kDict, even(pop_to_mark()));
        return true;
      case 0x90:  // ADDITEMS
        pop_to_mark();
        extend(Kind::kSet, {});
        return true;
      default:
        return false;
    }
  }
  std::vector<Index> even(std::vector<Index> items) const {
    if (items.size() % 2 != 0) fail("expected a value for every key, found one less");
    return items;
  }
  void extend(Kind kind, const std::vector<Index>& items) {
    Value& target = top_value();
    if (target.kind == Kind::kCall) return;  // of a class unknown here: nobody will look inside
    if (target.kind != kind) fail("expected a container of another kind to add to");
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  bool read_object(std::uint8_t op) {
    switch (op) {
      case 'c': {
        const std::string_view module = take_line();
        push({Kind::kGlobal, 0, take_line(), module, {}});
        return true;
      }
      case 0x93: {  // STACK_GLOBAL
        const std::vector<Index> names = pop_items(2);
        const Value& module = pickle_.at(names[0]);
        const Value& name = pickle_.at(names[1]);
        if (module.kind != Kind::kString || name.kind != Kind::kString) {
          fail("expected strings for the name of a global, found something else");
        }
        push({Kind::kGlobal, 0, name.text, module.text, {}});
        return true;
      }
      case 'R':
      case 0x81:  // NEWOBJ
        push_call(pop_items(2));
        return true;
      case 0x92:  // NEWOBJ_EX: with keyword arguments
        push_call(pop_items(3));
        return true;
      case 'b':
        pop();  // The state of an object. A dictionary's (PyTorch gives it one) is not its content.
        top();
        return true;
      case 'Q':
        push({Kind::kPersistent, 0, {}, {}, pop_items(1)});
        return true;
      default:
        return false;
    }
  }
  void push_call(std::vector<Index> items) {
    const Value& arguments = pickle_.at(items[1]);
    const bool is_dict = pickle_.is_global(pickle_.at(items[0]), "collections", "OrderedDict") &&
                         items.size() == 2 && arguments.kind == Kind::kTuple &&
                         arguments.items.empty();
    if (is_dict) items.clear();
    push({is_dict ? Kind::kDict : Kind::kCall, 0, {}, {}, std::move(items)});
  }

  /// What moves values about: marks, the memo, and the frame around it all.
  bool read_stack(std::uint8_t op) {
    switch (op) {
      case 0x80:  // PROTO
        if (take_byte() > 5) fail("expected protocol 2 to 5", ErrorCode::kUnsupported);
        return true;
      case 0x95:  // FRAME: a hint for readers of streams
        take(8);
        return true;
      case '(':
        if (marks_.size() == kMaxMarks) fail("expected less nesting", ErrorCode::kLimit);
        marks_.push_back(stack_.size());
        return true;
      case '0':
        pop();
        return true;
      case '1':
        pop_to_mark();
        return true;
      case '2':
        push_index(top());
        return true;
      case 'h':
      case 'j':
        push_index(recall(static_cast<std::uint32_t>(take_unsigned(op == 'h' ? 1 : 4))));
        return true;
      case 'q':
      case 'r':
        memorize(static_cast<std::uint32_t>(take_unsigned(op == 'q' ? 1 : 4)));
        return true;
      case 0x94:  // MEMOIZE
        memorize(static_cast<std::uint32_t>(memo_.size()));
        return true;
      default:
        return false;
    }
  }
  Index recall(std::uint32_t key) const {
    const auto it = memo_.find(key);
    if (it == memo_.end()) fail("expected a value in the memo, found none");
    return it->second;
  }
  void memorize(std::uint32_t key) {
    if (memo_.size() == kMaxValues) fail("expected at most 250000 values", ErrorCode::kLimit);
    memo_[key] = top();
  }

  Pickle& pickle_;
  const std::string& name_;
  std::size_t at_ = 0;
  std::vector<Index> stack_;
  std::vector<std::size_t> marks_;  // sizes of the stack
  std::unordered_map<std::uint32_t, Index> memo_;
};

Pickle Pickle::parse(std::vector<std::byte> bytes, const std::string& name) {
  Pickle pickle;
  pickle.bytes_ = std::move(bytes);
  PickleReader(pickle, name).run();
  return pickle;
}

const Pickle::Value* Pickle::find(const Value& dict, std::string_view key) const {
  for (std::size_t i = dict.items.size(); i >= 2; i -= 2) {
    const Value& candidate = at(dict.items[i - 2]);
    if (candidate.kind == Kind::kString && candidate.text == key) return &at(dict.items[i - 1]);
  }
  return nullptr;
}

std::string Pickle::describe(const Value& value) const {
  static constexpr std::array<const char*, 13> kNames = {"None",
                                                         "a bool",
                                                         "an integer",
                                                         "a number",
                                                         "a string",
                                                         "bytes",
                                                         "a list",
                                                         "a tuple",
                                                         "a set",
                                                         "a dictionary",
                                                         "the global ",
                                                         "an object of ",
                                                         "a persistent object"};
  std::string text = kNames[static_cast<std::size_t>(value.kind)];
  const Value& global = value.kind == Kind::kCall ? at(value.items[0]) : value;
  if (global.kind == Kind::kGlobal) {
    return text + printable(std::string(global.module.substr(0, 100)) + "." +
                            std::string(global.text.substr(0, 100)));
  }
  return value.kind == Kind::kCall ? "an object of something made within the pickle" : text;
}

bool Pickle::is_global(const Value& value, std::string_view module, std::string_view name) const {
  return value.kind == Kind::kGlobal && value.module == module && value.text == name;
}

}  // namespace intaglio
