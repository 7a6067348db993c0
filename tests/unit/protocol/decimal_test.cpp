#include "protocol/decimal.hpp"

#include <catch2/catch.hpp>

using nearcached::protocol::parse_decimal;

TEST_CASE("a canonical decimal is read over the whole 64-bit range") {
  CHECK(parse_decimal("0") == 0);
  CHECK(parse_decimal("7") == 7);
  CHECK(parse_decimal("-1") == -1);
  CHECK(parse_decimal("10") == 10);
  CHECK(parse_decimal("9223372036854775807") == INT64_MAX);
  CHECK(parse_decimal("-9223372036854775808") == INT64_MIN);
}

TEST_CASE("what string2ll refuses is refused") {
  for (const char* text : {"",
                           "-",
                           "+",
                           "+1",
                           "-0",
                           "00",
                           "01",
                           "-01",
                           " 1",
                           "1 ",
                           "1a",
                           "a",
                           "--1",
                           "-+1",
                           "0x10",
                           "1.0",
                           "9223372036854775808",
                           "-9223372036854775809",
                           "18446744073709551616",
                           "99999999999999999999"}) {
    INFO(text);
    CHECK_FALSE(parse_decimal(text).has_value());
  }
}
