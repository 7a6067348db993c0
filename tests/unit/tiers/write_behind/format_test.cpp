#include "tiers/write_behind/format.hpp"

#include <catch2/catch.hpp>
#include <string>

namespace nearcached::tiers::write_behind {
namespace {

const SegmentHeader kSegment{7, 0xfedcba9876543210, {40, 30}, kFormatVersion};
const GroupHeader kGroup{1000, 3, 0xfedcba9876543210, 41, {40, 30}, 1'790'000'000'000};

template <std::size_t N>
std::string text(const std::array<char, N>& bytes) {
  return {bytes.data(), bytes.size()};
}

TEST_CASE("headers come back as they were", "[format]") {
  CHECK(decode_segment_header(text(encode(kSegment)) + "more") == kSegment);
  CHECK(decode_group_header(text(encode(kGroup)) + "more") == kGroup);
  CHECK(kGroup.last() == 43);
  CHECK(kGroup.size() == 1056);
}

TEST_CASE("a header that is cut or of which one bit is wrong is none", "[format]") {
  const std::string segment = text(encode(kSegment));
  const std::string group = text(encode(kGroup));
  for (std::size_t size = 0; size < segment.size(); ++size) REQUIRE_FALSE(decode_segment_header(segment.substr(0, size)));
  for (std::size_t size = 0; size < group.size(); ++size) REQUIRE_FALSE(decode_group_header(group.substr(0, size)));
  for (std::size_t bit = 0; bit < segment.size() * 8; ++bit) {
    std::string damaged = segment;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    REQUIRE_FALSE(decode_segment_header(damaged));
  }
  for (std::size_t bit = 0; bit < group.size() * 8; ++bit) {
    std::string damaged = group;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    REQUIRE_FALSE(decode_group_header(damaged));
  }
}

TEST_CASE("a header of another version is read all the same", "[format]") {
  SegmentHeader newer = kSegment;
  newer.version = kFormatVersion + 1;
  CHECK(decode_segment_header(text(encode(newer))) == newer);
}

TEST_CASE("headers that no log can have are none", "[format]") {
  GroupHeader group = kGroup;
  group.first = 0;
  CHECK_FALSE(decode_group_header(text(encode(group))));
  group.first = std::uint64_t{1} << 63;
  CHECK_FALSE(decode_group_header(text(encode(group))));
  group = kGroup;
  group.marks = {30, 31};
  CHECK_FALSE(decode_group_header(text(encode(group))));
}

TEST_CASE("segments are named by their number in 16 digits, and nothing else is a segment", "[format]") {
  CHECK(segment_name(1) == "0000000000000001.wal");
  CHECK(segment_name(0xfedcba9876543210) == "fedcba9876543210.wal");
  CHECK(segment_number("00000000000000a1.wal") == 0xa1u);
  CHECK(segment_number("ffffffffffffffff.wal") == ~std::uint64_t{0});
  for (const char* name : {"", ".wal", "lock", "1.wal", "00000000000000A1.wal", "00000000000000a1.wal.gz",
                           "00000000000000a1.log", "g0000000000000a1.wal", "000000000000000a1.wal"}) {
    CHECK_FALSE(segment_number(name));
  }
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
