#include "tiers/insight/invalidation_clock.hpp"

#include <catch2/catch.hpp>
#include <memory>

namespace nearcached::tiers::insight {
namespace {

constexpr std::uint64_t kHash = 0x0123456789abcdef;
constexpr std::uint64_t kSamePlace = kHash ^ 1;  // another key, kept where kHash is
constexpr std::uint64_t kOtherPlace = kHash ^ (std::uint64_t{1} << 20);

// One own write, acknowledged at that time.
void write(InvalidationClock& clock, std::uint64_t hash, std::int64_t acknowledged_us) {
  clock.write_begins(hash);
  clock.write_ends(hash, acknowledged_us);
}

TEST_CASE("a push behind the acknowledgement is a sample of the time between") {
  const auto clock = std::make_unique<InvalidationClock>();
  write(*clock, kHash, 1000);
  CHECK(clock->pushed(kHash, 1250) == 250);
}

TEST_CASE("a push before the acknowledgement is no delay, whatever the time") {
  const auto clock = std::make_unique<InvalidationClock>();
  clock->write_begins(kHash);
  CHECK(clock->pushed(kHash, 99'000'000) == 0);
}

TEST_CASE("an earlier write's acknowledgement is not taken for that of the write under way") {
  const auto clock = std::make_unique<InvalidationClock>();
  write(*clock, kHash, 1000);
  clock->write_begins(kHash);
  CHECK(clock->pushed(kHash, 5000) == 0);
}

TEST_CASE("a write is sampled once: the next push of the key is somebody else's") {
  const auto clock = std::make_unique<InvalidationClock>();
  write(*clock, kHash, 1000);
  CHECK(clock->pushed(kHash, 1001).has_value());
  CHECK_FALSE(clock->pushed(kHash, 1002).has_value());
  clock->write_ends(kHash, 1003);
  CHECK_FALSE(clock->pushed(kHash, 1004).has_value());
}

TEST_CASE("a push of a key that nobody wrote here is no sample") {
  const auto clock = std::make_unique<InvalidationClock>();
  CHECK_FALSE(clock->pushed(kHash, 1000).has_value());
  clock->write_ends(kHash, 1000);
  CHECK_FALSE(clock->pushed(kHash, 1001).has_value());
  CHECK_FALSE(clock->pushed(0, 1002).has_value());
}

TEST_CASE("a write older than the memory is passed over, and forgotten") {
  const auto clock = std::make_unique<InvalidationClock>();
  write(*clock, kHash, 1000);
  CHECK(clock->pushed(kHash, 1000 + InvalidationClock::kMemoryUs - 1) == InvalidationClock::kMemoryUs - 1);
  write(*clock, kHash, 1000);
  CHECK_FALSE(clock->pushed(kHash, 1000 + InvalidationClock::kMemoryUs).has_value());
  CHECK_FALSE(clock->pushed(kHash, 1001).has_value());
}

TEST_CASE("a newer write of another key in the same place takes it over, whoever ends first") {
  const auto clock = std::make_unique<InvalidationClock>();
  write(*clock, kHash, 1000);
  clock->write_begins(kSamePlace);
  clock->write_ends(kHash, 1100);
  CHECK_FALSE(clock->pushed(kHash, 1200).has_value());
  clock->write_ends(kSamePlace, 1300);
  CHECK(clock->pushed(kSamePlace, 1310) == 10);
  clock->write_begins(kSamePlace);
  clock->write_ends(kHash, 1400);
  CHECK(clock->pushed(kSamePlace, 1500) == 0);
}

TEST_CASE("keys in different places do not disturb each other") {
  const auto clock = std::make_unique<InvalidationClock>();
  write(*clock, kHash, 1000);
  write(*clock, kOtherPlace, 2000);
  CHECK(clock->pushed(kHash, 2100) == 1100);
  CHECK(clock->pushed(kOtherPlace, 2100) == 100);
}

}  // namespace
}  // namespace nearcached::tiers::insight
