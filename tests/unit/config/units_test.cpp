#include "config/units.hpp"

#include <catch2/catch.hpp>

namespace nearcached::config {
namespace {

using std::chrono::milliseconds;

TEST_CASE("a whole number is digits and nothing else") {
  CHECK(parse_integer("0") == 0u);
  CHECK(parse_integer("18446744073709551615") == 18446744073709551615ull);
  for (const char* text : {"", " 1", "1 ", "+1", "-1", "1e3", "0x10", "1_000", "1.0", "18446744073709551616", "a"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_integer(text));
  }
}

TEST_CASE("sizes are 1024-based and take their unit in any case") {
  CHECK(parse_bytes("0") == 0u);
  CHECK(parse_bytes("4096") == 4096u);
  CHECK(parse_bytes("100KB") == 102'400u);
  CHECK(parse_bytes("50MB") == 52'428'800u);
  CHECK(parse_bytes("2gb") == 2ull << 30);
  CHECK(parse_bytes("17179869183GB") == 17179869183ull << 30);
}

TEST_CASE("what is not a size is refused, overflow included") {
  for (const char* text : {"", "lots", "MB", "50 MB", "50M", "50MiB", "50B", "1.5GB", "-1MB", "50MBs", "17179869184GB",
                           "99999999999999999999", "auto"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_bytes(text));
  }
}

TEST_CASE("durations need a unit") {
  CHECK(parse_duration("250ms") == milliseconds{250});
  CHECK(parse_duration("300s") == milliseconds{300'000});
  CHECK(parse_duration("5m") == milliseconds{300'000});
  CHECK(parse_duration("1h") == milliseconds{3'600'000});
  CHECK(parse_duration("0s") == milliseconds{0});
  for (const char* text : {"", "s", "300", "0", "1 s", "1.5s", "-1s", "1S", "1d", "1min", "1m30s", "9223372036854775807s"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_duration(text));
  }
}

TEST_CASE("fractions have digits and at most one point") {
  CHECK(parse_fraction("0.8") == 0.8);
  CHECK(parse_fraction("1") == 1.0);
  CHECK(parse_fraction(".5") == 0.5);
  for (const char* text : {"", ".", "0.8.1", "80%", "1e-1", "-0.5", "nan", "inf", "0,8", " 1"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_fraction(text));
  }
}

TEST_CASE("a formatted size reads back as the same number of bytes") {
  CHECK(format_bytes(50u << 20) == "50MB");
  CHECK(format_bytes(100 * 1024) == "100KB");
  CHECK(format_bytes(0) == "0");
  CHECK(format_bytes(1025) == "1025");
  for (const std::uint64_t bytes : {0ull, 1ull, 1023ull, 1024ull, 1536ull, 1ull << 20, (1ull << 30) + 1024, ~0ull}) {
    CHECK(parse_bytes(format_bytes(bytes)) == bytes);
  }
}

TEST_CASE("a formatted duration reads back exactly, and seconds stay seconds up to ten minutes") {
  CHECK(format_duration(milliseconds{300'000}) == "300s");
  CHECK(format_duration(milliseconds{0}) == "0s");
  CHECK(format_duration(milliseconds{1500}) == "1500ms");
  CHECK(format_duration(milliseconds{7'200'000}) == "2h");
  CHECK(format_duration(milliseconds{5'400'000}) == "90m");
  for (const int ms : {0, 1, 999, 1000, 60'000, 600'000, 660'000, 3'600'000, 3'600'001}) {
    CHECK(parse_duration(format_duration(milliseconds{ms})) == milliseconds{ms});
  }
}

TEST_CASE("a formatted fraction reads back exactly") {
  CHECK(format_fraction(0.8) == "0.8");
  CHECK(format_fraction(1) == "1");
  for (const double fraction : {0.1, 0.3333333333333333, 1e-7}) CHECK(parse_fraction(format_fraction(fraction)) == fraction);
}

}  // namespace
}  // namespace nearcached::config
