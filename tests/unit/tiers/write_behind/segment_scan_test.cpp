#include "tiers/write_behind/segment_scan.hpp"

#include <catch2/catch.hpp>
#include <string>

#include "tests/unit/tiers/write_behind/support.hpp"

namespace nearcached::tiers::write_behind {
namespace {

using testing::group_of;
using testing::kLogId;
using testing::kNowMs;

template <std::size_t N>
std::string text(const std::array<char, N>& bytes) {
  return {bytes.data(), bytes.size()};
}

std::string segment_bytes(std::uint64_t log_id = kLogId) {
  return text(encode(SegmentHeader{1, log_id, {}, kFormatVersion}));
}

std::string group_bytes(const Group& group, std::uint64_t log_id = kLogId, const Marks& marks = {}) {
  std::string bytes = text(encode(
      GroupHeader{static_cast<std::uint32_t>(group.bytes.size()), group.records, log_id, group.first, marks, kNowMs}));
  bytes += group.bytes;
  bytes.resize(aligned(bytes.size()));
  return bytes;
}

TEST_CASE("a sound segment has its groups and no damage, with or without its preallocation", "[segment_scan]") {
  std::string bytes =
      segment_bytes() + group_bytes(group_of(1, 3)) + group_bytes(group_of(4, 0)) + group_bytes(group_of(4, 2));
  const std::size_t written = bytes.size();
  for (const std::size_t zeros : {0, 1, 8, 4096}) {
    bytes.resize(written + zeros);
    const SegmentScan scan = scan_segment(bytes, std::nullopt);
    REQUIRE(scan.header);
    REQUIRE(scan.groups.size() == 3);
    CHECK(scan.damage.empty());
    CHECK(aligned(scan.used) == written);
    CHECK(scan.groups[2].header.first == 4);
    CHECK(scan.groups[2].whole());
    CHECK(scan.groups[1].header.last() == 3);
    std::uint64_t next = 4;
    for_each_record(bytes, scan.groups[2], 2, [&](const ParsedRecord& parsed) { CHECK(parsed.sequence == next++); });
    CHECK(next == 6);
  }
}

TEST_CASE("nothing, and zeros, are a clean end from the start", "[segment_scan]") {
  for (const std::size_t size : {0, 1, 47, 48, 4096}) {
    const SegmentScan scan = scan_segment(std::string(size, '\0'), kLogId);
    CHECK_FALSE(scan.header);
    CHECK(scan.groups.empty());
    CHECK(scan.damage.empty());
    CHECK(scan.used == 0);
  }
}

TEST_CASE("behind a damaged header the next group is found", "[segment_scan]") {
  const std::string first = group_bytes(group_of(1, 3));
  std::string bytes = segment_bytes() + first + group_bytes(group_of(4, 2));
  bytes[kSegmentHeaderBytes + 20] ^= 1;
  const SegmentScan scan = scan_segment(bytes, kLogId);
  REQUIRE(scan.groups.size() == 1);
  CHECK(scan.groups[0].header.first == 4);
  CHECK(scan.damage == std::vector<DamagedBytes>{{kSegmentHeaderBytes, first.size()}});
}

TEST_CASE("of a damaged group the records in front of the damage are sound", "[segment_scan]") {
  const Group group = group_of(1, 5);
  const std::size_t two =
      parse_record(group.bytes)->bytes + parse_record(group.bytes.substr(parse_record(group.bytes)->bytes))->bytes;
  std::string bytes = segment_bytes() + group_bytes(group) + group_bytes(group_of(6, 1));
  const std::size_t third = kSegmentHeaderBytes + kGroupHeaderBytes + two;
  bytes[third + 20] ^= 1;
  const SegmentScan scan = scan_segment(bytes, kLogId);
  REQUIRE(scan.groups.size() == 2);
  CHECK(scan.groups[0].sound == 2);
  CHECK_FALSE(scan.groups[0].whole());
  CHECK(scan.damage == std::vector<DamagedBytes>{{third, scan.groups[0].end() - third}});
}

TEST_CASE("the bytes of a group inside a value are not taken for a group", "[segment_scan]") {
  const std::string foreign = group_bytes(group_of(1, 1), kLogId + 1);
  Group group;
  for (int shift = 0; shift < 8; ++shift) {
    testing::append(group, testing::set_of("k", std::string(static_cast<std::size_t>(shift), ' ') + foreign));
  }
  std::string bytes = segment_bytes() + group_bytes(group);
  bytes[kSegmentHeaderBytes] ^= 1;
  CHECK(scan_segment(bytes, kLogId).groups.empty());
  CHECK(scan_segment(bytes, std::nullopt).groups.empty());
}

TEST_CASE("a segment whose header is damaged goes by its groups", "[segment_scan]") {
  std::string bytes = segment_bytes() + group_bytes(group_of(1, 3));
  bytes[0] ^= 1;
  const SegmentScan scan = scan_segment(bytes, std::nullopt);
  CHECK_FALSE(scan.header);
  REQUIRE(scan.groups.size() == 1);
  CHECK(scan.damage == std::vector<DamagedBytes>{{0, kSegmentHeaderBytes}});
}

TEST_CASE("sequences that do not follow each other make a group damaged", "[segment_scan]") {
  Group group = group_of(1, 1);
  group.bytes += group_of(3, 1).bytes;
  group.records = 2;
  const SegmentScan scan = scan_segment(segment_bytes() + group_bytes(group), kLogId);
  REQUIRE(scan.groups.size() == 1);
  CHECK(scan.groups[0].sound == 1);
}

TEST_CASE("a group that stands behind a later one is damage: it was never written there", "[segment_scan]") {
  const std::string misplaced = group_bytes(group_of(2, 2));
  const std::string bytes = segment_bytes() + group_bytes(group_of(5, 2)) + misplaced + group_bytes(group_of(7, 1));
  const SegmentScan scan = scan_segment(bytes, kLogId);
  REQUIRE(scan.groups.size() == 2);
  CHECK(scan.groups[1].header.first == 7);
  REQUIRE(scan.damage.size() == 1);
  CHECK(scan.damage[0].bytes == misplaced.size());
}

TEST_CASE("whatever the bytes are, the scan ends and stays inside of them", "[segment_scan]") {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string bytes = segment_bytes() + group_bytes(group_of(1, 4)) + group_bytes(group_of(5, 4));
    for (int i = 0; i < 6; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    bytes.resize(random() % (bytes.size() + 50));
    bytes.shrink_to_fit();
    const SegmentScan scan = scan_segment(bytes, kLogId);
    CHECK(scan.used <= bytes.size());
    for (const DamagedBytes& damage : scan.damage) CHECK(damage.offset + damage.bytes <= bytes.size());
  }
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
