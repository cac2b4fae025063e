// Errors as tests want them: thrown, of a kind, and with a message that says what is wrong.
#pragma once

#include <catch2/catch.hpp>
#include <string>

#include "graph/error.h"

namespace intaglio::test {

/// The Error that `call` throws. Fails the test when it throws none; another exception ends it.
template <typename F>
Error error_of(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  FAIL("expected an Error, none was thrown");
  throw std::logic_error("unreachable");
}

/// `call` throws an Error of this kind whose message contains `piece`.
template <typename F>
void check_error(F&& call, ErrorCode code, const std::string& piece) {
  const Error error = error_of(call);
  CHECK_THAT(error.what(), Catch::Contains(piece));
  CHECK(error.code() == code);
}

}  // namespace intaglio::test
