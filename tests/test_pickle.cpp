// The reader of pickles: what it takes, what it refuses, and that nothing makes it large or deep.
#include <catch2/catch.hpp>

#include "converters/pickle.h"
#include "tests/support/archives.h"
#include "tests/support/expect_error.h"

namespace intaglio {
namespace {

using test::check_error;
using Kind = Pickle::Kind;
namespace pkl = test::pkl;
using namespace std::string_literals;

/// A copy that ends where its allocation ends, so that a sanitizer sees a read beyond it.
std::vector<std::byte> copy(const std::string& text) {
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}
Pickle parse(const std::string& opcodes) {
  return Pickle::parse(copy(pkl::pickle(opcodes)), "p");
}
Pickle::Value root(const std::string& opcodes) {
  return parse(opcodes).root();
}
void check_refused(const std::string& pickle, const std::string& piece,
                   ErrorCode code = ErrorCode::kFormat) {
  check_error([&] { Pickle::parse(copy(pickle), "p"); }, code, piece);
}
std::string repeat(const std::string& text, std::size_t times) {
  std::string all;
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}

}  // namespace

TEST_CASE("values of pickles", "[pickle]") {
  CHECK(root("N").kind == Kind::kNone);
  CHECK(root("\x88").integer == 1);
  CHECK(root("\x89").kind == Kind::kBool);
  const std::pair<std::string, std::int64_t> integers[] = {
      {"K\xff", 255},
      {"M\xff\xff", 65535},
      {"J\xff\xff\xff\xff", -1},
      {{"J\0\0\0\x80", 5}, INT32_MIN},
      {{"\x8a\0", 2}, 0},
      {"\x8a\x01\xff", -1},
      {{"\x8a\x02\xff\0", 4}, 255},
      {{"\x8b\x02\0\0\0\0\x80", 7}, -32768},
      {{"\x8a\x08\0\0\0\0\0\0\0\x80", 10}, INT64_MIN},
  };
  for (const auto& [opcodes, expected] : integers) {
    CHECK(root(opcodes).kind == Kind::kInt);
    CHECK(root(opcodes).integer == expected);
  }
  CHECK(root("\x8a\x09"s + std::string(9, '\1')).kind == Kind::kNumber);
  CHECK(root("G"s + std::string(8, '\0')).kind == Kind::kNumber);
  for (const std::string& opcodes : {std::string("X\2\0\0\0ab", 7),
                                     std::string("\x8c\2"
                                                 "ab"),
                                     std::string("\x8d\2\0\0\0\0\0\0\0ab", 11),
                                     std::string("U\2"
                                                 "ab"),
                                     std::string("T\2\0\0\0ab", 7)}) {
    const Pickle pickle = parse(opcodes);
    CHECK(pickle.root().kind == Kind::kString);
    CHECK(pickle.root().text == "ab");
  }
  CHECK(root("C\2"
             "ab")
            .kind == Kind::kBytes);
  CHECK(root("\x96\2"s + std::string(7, '\0') + "ab").kind == Kind::kBytes);
  CHECK(root("\x8f(K\1K\2\x90").kind == Kind::kSet);
  CHECK(root("(K\1\x91").kind == Kind::kSet);
}

TEST_CASE("containers and the memo of pickles", "[pickle]") {
  CHECK(root(")").items.empty());
  CHECK(root("K\1\x85").items.size() == 1);
  CHECK(root("K\1K\2\x86").items.size() == 2);
  CHECK(root("K\1K\2K\3\x87").kind == Kind::kTuple);
  CHECK(root("(K\1K\2K\3K\4t").items.size() == 4);
  CHECK(root("(K\1K\2l").kind == Kind::kList);
  CHECK(root("](K\1K\2eK\3a").items.size() == 3);
  CHECK(root("(K\1K\2d").kind == Kind::kDict);
  CHECK(root("N(K\1K\2(K\3\61\61").kind == Kind::kNone);  // two POP_MARKs
  CHECK(root("NK\1\60").kind == Kind::kNone);             // POP
  const Pickle shared = parse("]q\7r\1\2\0\0\x94\60h\7j\1\2\0\0h\2\x87"s);
  REQUIRE(shared.root().items.size() == 3);
  CHECK(shared.root().items[0] == shared.root().items[1]);
  CHECK(shared.root().items[0] == shared.root().items[2]);
}

TEST_CASE("dictionaries of pickles", "[pickle]") {
  const auto key = [](const std::string& text) { return pkl::text(text); };
  const Pickle pickle = parse("}q\1("s + key("a") + "K\1"s + key("b") + "K\2K\5K\6u"s + key("a") +
                              "K\3s"s + key("self") + "h\1s");
  const Pickle::Value& dict = pickle.root();
  CHECK(dict.items.size() == 10);
  REQUIRE(pickle.find(dict, "a") != nullptr);
  CHECK(pickle.find(dict, "a")->integer == 3);  // as Python: the last one counts
  CHECK(pickle.find(dict, "b")->integer == 2);
  CHECK(pickle.find(dict, "c") == nullptr);
  CHECK(pickle.find(dict, "self") == &dict);

  const std::string ordered = "ccollections\nOrderedDict\n)R";
  CHECK(root(ordered + "("s + key("a") + "K\1u").items.size() == 2);
  CHECK(root(ordered + "}"s + "b").kind == Kind::kDict);
  CHECK(root("\x8c\x0b"
             "collections\x8c\x0bOrderedDict\x93)R")
            .kind == Kind::kDict);
  CHECK(root("ccollections\nOrderedDict\n]\x85R").kind == Kind::kCall);
}

TEST_CASE("objects are described, not made", "[pickle]") {
  const auto describe = [](const std::string& opcodes) {
    const Pickle pickle = parse(opcodes);
    return pickle.describe(pickle.root());
  };
  CHECK(describe("cos\nsystem\n") == "the global 'os.system'");
  const std::string system = "cos\nsystem\n"s + pkl::text("false") + "\x85";
  CHECK(describe(system + "R") == "an object of 'os.system'");
  CHECK(describe(system + "\x81") == "an object of 'os.system'");
  CHECK(describe(system + "}\x92") == "an object of 'os.system'");
  CHECK(describe(system + "R}b(K\1eK\1K\2s") == "an object of 'os.system'");
  CHECK(describe(system + "R)R") == "an object of something made within the pickle");
  CHECK(describe("c\x1b[2J\n"s + std::string(1000, 'a') + "\n").size() < 200);
  CHECK(describe("K\1Q") == "a persistent object");
  CHECK(describe("\x8f") == "a set");
  CHECK(describe("]") == "a list");
}

TEST_CASE("what is no pickle is refused", "[pickle]") {
  const std::pair<std::string, const char*> cases[] = {
      {"", "p: pickle, byte 0: expected 1 bytes, found its end"},
      {"\x80\x02", "byte 2: expected 1 bytes, found its end"},
      {".", "expected one value, found more or none"},
      {"NN.", "expected one value, found more or none"},
      {"(N.", "expected one value, found more or none"},
      {"N.N", "expected its end, found more bytes"},
      {"0", "expected a value on the stack, found none"},
      {"N(0", "expected a value on the stack, found none"},  // a mark protects what is below
      {"N(\x85", "expected a value on the stack, found none"},
      {"N(q\1", "expected a value on the stack, found none"},
      {"2", "expected a value on the stack, found none"},
      {"t", "expected a mark on the stack, found none"},
      {"]K\1e", "expected a mark on the stack, found none"},
      {"(NNNd", "expected a value for every key, found one less"},
      {"}(Nu", "expected a value for every key, found one less"},
      {"NNa", "expected a container of another kind to add to"},
      {"]NNs", "expected a container of another kind to add to"},
      {")Na", "expected a container of another kind to add to"},
      {"}(N\x90", "expected a container of another kind to add to"},
      {"Na", "expected a value on the stack, found none"},
      {"h\1", "expected a value in the memo, found none"},
      {"NK\1\x93", "expected strings for the name of a global"},
      {"cos\nsystem", "expected a line, found its end"},
      {"Nb", "expected a value on the stack, found none"},
      {"X\xff\xff\xff\xff"
       "abc",
       "expected 4294967295 bytes, found its end"},
      {"\x8d"s + std::string(8, '\xff') + "abc", "expected 18446744073709551615 bytes"},
      {"\x8b\xff\xff\xff\xff"
       "abc",
       "expected 4294967295 bytes, found its end"},
      {"K", "expected 1 bytes, found its end"},
  };
  for (const auto& [pickle, expected] : cases) check_refused(pickle, expected);
  // The text protocols, extension codes, buffers outside, opcodes of nobody.
  for (const char* pickle :
       {"I1\n.", "S'a'\n.", "Va\n.", "L1L\n.", "F1.0\n.", "p1\n", "g1\n", "P1\n", "(ios\nsystem\n.",
        "(cos\nsystem\no.", "\x82\x01", "\x97", "\xff", "\x80\x06N."}) {
    check_refused(pickle, "expected", ErrorCode::kUnsupported);
  }
}

TEST_CASE("pickle bombs stay small", "[pickle]") {
  // Nesting in marks is limited, nesting in values costs a value per level and no recursion.
  check_refused(repeat("(", 2000), "expected less nesting", ErrorCode::kLimit);
  const std::size_t depth = 200'000;
  CHECK(root(repeat("]", depth) + repeat("a", depth - 1)).items.size() == 1);
  CHECK(root("N"s + repeat("\x85", depth)).items.size() == 1);
  // Values, the stack and the memo.
  check_refused(repeat("]", 300'000), "expected at most 250000 values", ErrorCode::kLimit);
  check_refused(repeat("N0", 300'000), "expected at most 250000 values", ErrorCode::kLimit);
  check_refused("N"s + repeat("2", 300'000), "expected at most 250000 values", ErrorCode::kLimit);
  check_refused("N"s + repeat("\x94", 300'000), "at most 250000 values", ErrorCode::kLimit);
  // 2^100 leaves if it were walked; a list that holds itself many times.
  CHECK(root("N"s + repeat("\x94"
                           "2\x86",
                           100))
            .items.size() == 2);
  CHECK(root("]q\1("s + repeat("h\1", 1000) + "e").items.size() == 1000);
  // A long text that every global is made of.
  const std::string text = pkl::text(std::string(1 << 20, 'a')) + "q\1";
  CHECK(root("]("s + text + repeat("h\1h\1\x93", 10'000) + "e").items.size() == 10'001);
}

}  // namespace intaglio
