#include "daemon/log_rate_limit.hpp"

#include <catch2/catch.hpp>

namespace nearcached::daemon::log {
namespace {

constexpr RateLimit::Options kOptions{.lines = 5, .window_ms = 10'000, .pairs_max = 8};

// Asks `n` times at one moment; how many were allowed.
int allowed(RateLimit& limit, int n, std::int64_t now_ms, std::string_view key = "a", std::string_view event = "lost") {
  int count = 0;
  for (int i = 0; i < n; ++i) count += limit.ask(event, key, now_ms).allowed ? 1 : 0;
  return count;
}

TEST_CASE("five lines of a window pass, the sixth does not") {
  RateLimit limit(kOptions);
  CHECK(allowed(limit, 5, 1000) == 5);
  CHECK(allowed(limit, 1000, 1001) == 0);
  CHECK(allowed(limit, 1, 10'999) == 0);
}

TEST_CASE("the line that opens the next window says how many were held back, once") {
  RateLimit limit(kOptions);
  CHECK(allowed(limit, 105, 0) == 5);
  const auto first = limit.ask("lost", "a", 10'000);
  CHECK(first.allowed);
  CHECK(first.suppressed == 100);
  CHECK(limit.ask("lost", "a", 10'000).suppressed == 0);
  CHECK(limit.suppressed_total() == 100);
}

TEST_CASE("a window starts with its first line, not on a grid") {
  RateLimit limit(kOptions);
  CHECK(allowed(limit, 5, 9'999) == 5);
  CHECK(allowed(limit, 5, 10'001) == 0);
  CHECK(allowed(limit, 5, 19'999) == 5);
}

TEST_CASE("a clock that starts below zero or at zero works as any other") {
  RateLimit limit(kOptions);
  CHECK(allowed(limit, 6, -20'000) == 5);
  CHECK(allowed(limit, 6, -10'000) == 5);
  CHECK(allowed(limit, 6, 0) == 5);
}

TEST_CASE("events and keys do not hold each other back, also where their concatenations are equal") {
  RateLimit limit(kOptions);
  CHECK(allowed(limit, 6, 0, "b", "a") == 5);
  CHECK(allowed(limit, 6, 0, "c", "a") == 5);
  CHECK(allowed(limit, 6, 0, "b", "x") == 5);
  CHECK(allowed(limit, 6, 0, "", "ab") == 5);
}

TEST_CASE("a flood of new keys shares one window once all are in use, and memory stays bounded") {
  RateLimit limit(kOptions);
  int lines = 0;
  for (int i = 0; i < 10'000; ++i) lines += allowed(limit, 1, 0, std::to_string(i));
  CHECK(lines == 8 + 5);
  CHECK(limit.pairs() == 8);
}

TEST_CASE("windows that are over make room for new keys") {
  RateLimit limit(kOptions);
  for (int i = 0; i < 8; ++i) CHECK(allowed(limit, 1, 0, std::to_string(i)) == 1);
  CHECK(allowed(limit, 6, 10'000, "new") == 5);
  CHECK(limit.pairs() == 1);
}

TEST_CASE("a pair that owes a count is remembered for a second window") {
  RateLimit limit(kOptions);
  CHECK(allowed(limit, 7, 0, "owes") == 5);
  for (int i = 0; i < 7; ++i) CHECK(allowed(limit, 1, 0, std::to_string(i)) == 1);
  CHECK(allowed(limit, 1, 10'000, "new") == 1);
  CHECK(limit.ask("lost", "owes", 19'999).suppressed == 2);
}

TEST_CASE("by default five lines per ten seconds pass") {
  RateLimit limit;
  CHECK(allowed(limit, 10, 0) == 5);
  CHECK(allowed(limit, 10, 9'999) == 0);
  CHECK(allowed(limit, 10, 10'000) == 5);
}

}  // namespace
}  // namespace nearcached::daemon::log
