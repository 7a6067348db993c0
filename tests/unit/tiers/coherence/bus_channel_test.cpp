#include "tiers/coherence/bus_channel.hpp"

#include <catch2/catch.hpp>

#include "protocol/key_slot.hpp"

namespace nearcached::tiers::coherence {

TEST_CASE("every slot has a channel that hashes to it", "[bus_channel]") {
  for (std::uint16_t slot = 0; slot < protocol::kSlotCount; ++slot) {
    const std::string channel = sharded_channel("nearcached:invalidation", slot);
    REQUIRE(protocol::key_slot(channel) == slot);
    REQUIRE(channel.starts_with("nearcached:invalidation:{"));
    REQUIRE(slot_tag(slot).size() <= 4);
  }
}

TEST_CASE("tags are the same in every version, since peers must find the same channel", "[bus_channel]") {
  CHECK(sharded_channel("c", 0) == "c:{1bz}");
  CHECK(sharded_channel("c", 5461) == "c:{3zu}");
  CHECK(sharded_channel("c", 16383) == "c:{hia}");
  CHECK(slot_tag(protocol::key_slot("0")) == "0");
  CHECK(slot_tag(protocol::key_slot("z")) == "z");
}

TEST_CASE("a channel's name with braces would hide the tag", "[bus_channel]") {
  CHECK(is_channel_name("nearcached:invalidation"));
  CHECK_FALSE(is_channel_name(""));
  CHECK_FALSE(is_channel_name("near{cached}"));
  CHECK_FALSE(is_channel_name("near}"));
}

}  // namespace nearcached::tiers::coherence
