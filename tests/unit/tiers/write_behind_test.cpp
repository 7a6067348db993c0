#include "tiers/write_behind.hpp"

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

namespace nearcached::tiers {
namespace {

using namespace write_behind;
using namespace std::chrono_literals;

struct Directory {
  Directory() {
    std::string name = "/tmp/nearcached-write-behind-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Directory() { std::filesystem::remove_all(path); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::string path;
};

WritePtr set(std::string value) { return std::make_shared<const Write>(Write{Write::Kind::kSet, std::move(value), 0}); }

WriteBehindOptions options(const std::string& directory) {
  WriteBehindOptions options;
  options.log_dir = directory;
  options.queue.batch_interval_us = 0;
  return options;
}

std::uint64_t put(WriteBehind& behind, std::string_view key, std::string value) {
  const auto result = behind.put({{0, key}, 0, Priority::kNormal, set(std::move(value))}, 1);
  CHECK(result.put == WriteQueue::Put::kAccepted);
  return result.sequence;
}

// For what the log's thread does by itself.
template <class Condition>
bool within_seconds(Condition condition) {
  for (int i = 0; i < 10'000 && !condition(); ++i) std::this_thread::sleep_for(1ms);
  return condition();
}

void flush(WriteBehind& behind) {
  std::vector<WriteQueue::Flight> flights;
  behind.queue().take(0, 1, behind.flushable_sequence(), flights);
  for (const auto& flight : flights) behind.queue().flushed({flight.entry}, 1);
}

TEST_CASE("a write is safe once it is durable, and who wants to know is told", "[write_behind]") {
  Directory directory;
  WriteBehind behind(options(directory.path));
  std::atomic<int> told{0};
  behind.on_safe([&] { ++told; });
  REQUIRE(behind.open(1).ok());
  const std::uint64_t sequence = put(behind, "k", "v");
  CHECK(within_seconds([&] { return told.load() != 0; }));
  for (const bool in_log_only : {false, true}) CHECK(behind.safety({sequence, in_log_only}) == Safety::kSafe);
  CHECK(behind.safety({sequence + 1, false}) == Safety::kNotYet);
  CHECK(behind.close());
}

TEST_CASE("the next start has what was not flushed, and nothing of what was", "[write_behind]") {
  Directory directory;
  {
    WriteBehind behind(options(directory.path));
    REQUIRE(behind.open(1).ok());
    const std::uint64_t first = put(behind, "flushed", "1");
    REQUIRE(within_seconds([&] { return behind.safety({first, true}) == Safety::kSafe; }));
    flush(behind);
    put(behind, "left", "2");
    behind.tick();
    REQUIRE(within_seconds([&] { return behind.log_stats().durable == 2; }));
    CHECK(behind.close());
  }
  WriteBehind behind(options(directory.path));
  const RecoveryReport report = behind.open(1);
  REQUIRE(report.ok());
  CHECK(report.records == 1);
  CHECK_FALSE(behind.queue().find({0, "flushed"}));
  REQUIRE(behind.queue().find({0, "left"}));
  CHECK(behind.queue().find({0, "left"})->write->value == "2");
}

TEST_CASE("what a direct write has superseded does not come back", "[write_behind]") {
  Directory directory;
  {
    WriteBehind behind(options(directory.path));
    REQUIRE(behind.open(1).ok());
    const std::uint64_t first = put(behind, "a", "1");
    const std::uint64_t second = put(behind, "b", "1");
    REQUIRE(within_seconds([&] { return behind.safety({second, true}) == Safety::kSafe; }));
    flush(behind);
    CHECK(behind.supersede({0, "none"}) == 0u);
    const auto one = behind.supersede({0, "a"});
    REQUIRE(one);
    CHECK(*one > first);
    const auto all = behind.supersede_all();
    REQUIRE(all);
    CHECK(*all > *one);
    REQUIRE(within_seconds([&] { return behind.safety({*all, true}) == Safety::kSafe; }));
    CHECK(behind.close());
  }
  WriteBehind behind(options(directory.path));
  REQUIRE(behind.open(1).ok());
  CHECK(behind.queue().stats().records == 0);
}

TEST_CASE("of one log there is one owner", "[write_behind]") {
  Directory directory;
  WriteBehind behind(options(directory.path));
  REQUIRE(behind.open(1).ok());
  WriteBehind other(options(directory.path));
  const RecoveryReport report = other.open(1);
  CHECK_FALSE(report.ok());
  CHECK(report.error.find(directory.path) != report.error.npos);
}

TEST_CASE("records older than allowed are reported and not replayed", "[write_behind]") {
  Directory directory;
  {
    WriteBehind behind(options(directory.path));
    REQUIRE(behind.open(1).ok());
    put(behind, "k", "v");
    CHECK(behind.close());
  }
  std::this_thread::sleep_for(5ms);
  WriteBehindOptions strict = options(directory.path);
  strict.max_replay_age_ms = 1;
  std::string reported;
  strict.on_too_old = [&](const RecoveredRecord& found) { reported = found.record.key; };
  WriteBehind behind(strict);
  REQUIRE(behind.open(1).ok());
  CHECK(reported == "k");
  CHECK(behind.queue().stats().records == 0);
}

TEST_CASE("without a log all is safe at once, and nothing needs superseding", "[write_behind]") {
  WriteBehind behind(options(""));
  REQUIRE(behind.open(1).ok());
  CHECK_FALSE(behind.has_log());
  CHECK(behind.safety({put(behind, "k", "v"), true}) == Safety::kSafe);
  flush(behind);
  CHECK(behind.supersede({0, "k"}) == 0u);
  CHECK(behind.supersede_all() == 0u);
  behind.tick();
  CHECK(behind.close());
}

}  // namespace
}  // namespace nearcached::tiers
