// Every truncation and every wrong byte of a log of three segments, against what must come of it.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/unit/tiers/write_behind/support.hpp"
#include "tiers/write_behind/recovery.hpp"

namespace nearcached::tiers::write_behind {
namespace {

using namespace testing;

struct Written {
  std::uint64_t segment;
  std::uint64_t offset;
  GroupHeader header;
};

// Three segments of 4 KiB. `closed`: a mark is the last that was written.
class ThreeSegments {
 public:
  explicit ThreeSegments(bool closed) {
    LogStart start;
    start.log_id = kLogId;
    LogWriter writer(disk, start, {LogWriter::kSegmentBytesMin});
    std::uint64_t next = 1;
    for (std::uint32_t records = 1; disk.names().size() < 3 || next < enough_; records = records % 4 + 1) {
      if (next % 3 == 0) mark(writer, next);
      REQUIRE(writer.commit(group_of(next, records), kNowMs));
      next += records;
      if (disk.names().size() == 3 && enough_ == 0) enough_ = next + 12;
    }
    if (closed) mark(writer, next);
    last = next - 1;
    REQUIRE(disk.names().size() == 3);
    for (std::uint64_t segment = 1; segment <= 3; ++segment) {
      const SegmentScan scan = scan_segment(disk.bytes(segment_name(segment)), kLogId);
      for (const ScannedGroup& group : scan.groups) groups.push_back({segment, group.offset, group.header});
    }
  }

  MemoryDisk disk;
  std::vector<Written> groups;
  std::uint64_t last = 0;

 private:
  static void mark(LogWriter& writer, std::uint64_t next) {
    Group none;
    none.first = next;
    REQUIRE(writer.commit(none, kNowMs));
  }

  std::uint64_t enough_ = 0;
};

// What is left when the bytes from..to of a segment are damaged.
struct Expected {
  std::uint64_t durable = 0;  // the highest mark that is left
  std::uint64_t first_missing = 0;
};

Expected expect(const ThreeSegments& log, std::uint64_t segment, std::uint64_t from, std::uint64_t to) {
  Expected expected;
  std::uint64_t next = 1;
  for (const Written& group : log.groups) {
    const auto hit = [&](std::uint64_t begin, std::uint64_t end) {
      return group.segment == segment && begin < to && from < end;
    };
    const std::uint64_t payload = group.offset + kGroupHeaderBytes;
    const bool header_left = !hit(group.offset, payload);
    if (header_left) expected.durable = std::max(expected.durable, group.header.marks.durable);
    const bool left = header_left && !hit(payload, payload + group.header.bytes);
    if (left && group.header.first == next) next = group.header.first + group.header.records;
  }
  for (const Written& group : log.groups) {  // of headers of segments: that of the first group in it
    const bool head_left = group.segment != segment || from >= kSegmentHeaderBytes;
    if (group.offset == kSegmentHeaderBytes && head_left) {
      expected.durable = std::max(expected.durable, group.header.marks.durable);
    }
  }
  expected.first_missing = next;
  return expected;
}

bool is_prefix_of_history(const std::vector<Kept>& records) {
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (!(records[i] == made_up(i + 1))) return false;
  }
  return true;
}

void check_skipped(const MemoryDisk& damaged, const Recovered& refused) {
  MemoryDisk disk = damaged.copy();
  const Recovered skipped = recover_all(disk, true);
  REQUIRE(skipped.report.ok());
  REQUIRE(skipped.report.lost.size() == 1);
  const Loss& lost = skipped.report.lost[0];
  REQUIRE(lost.first >= refused.report.lost[0].first);
  REQUIRE(lost.last == refused.report.lost[0].last);
  REQUIRE(skipped.report.skipped_bytes + skipped.report.tail_bytes >= lost.bytes);
  std::uint64_t next = 1;
  bool good = true;  // one assertion for all: there are millions
  for (Kept record : skipped.records) {
    if (next == lost.first) next = lost.last + 1;
    good = good && record.in_doubt == (record.sequence < lost.first);
    record.in_doubt = false;
    good = good && record == made_up(next++);
  }
  REQUIRE(good);
}

// Returns whether the log was refused.
bool check_damage(const ThreeSegments& log, const MemoryDisk& damaged, std::uint64_t segment, std::uint64_t from,
                  std::uint64_t to) {
  const Expected expected = expect(log, segment, from, to);
  MemoryDisk disk = damaged.copy();
  const Recovered recovered = recover_all(disk);
  CAPTURE(segment, from, to, recovered.report.error);
  if (expected.first_missing <= expected.durable) {
    REQUIRE(recovered.report.status == RecoveryStatus::kDamaged);
    REQUIRE(recovered.records.empty());
    const Loss& lost = recovered.report.lost.front();
    REQUIRE(lost.first == expected.first_missing);
    REQUIRE(lost.segment == segment);
    REQUIRE(lost.offset < from + kAlignment);
    REQUIRE(recovered.report.error.find(segment_name(segment) + " at offset " + std::to_string(lost.offset)) !=
            std::string::npos);
    check_skipped(damaged, recovered);
    return true;
  }
  REQUIRE(recovered.report.ok());
  REQUIRE(is_prefix_of_history(recovered.records));
  REQUIRE(recovered.records.size() + 1 == expected.first_missing);
  return false;
}

TEST_CASE("a log of three segments cut at any offset", "[recovery_damage]") {
  const bool closed = GENERATE(true, false);
  const ThreeSegments log(closed);
  for (std::uint64_t segment = 1; segment <= 3; ++segment) {
    const std::string name = segment_name(segment);
    const std::string whole = const_cast<MemoryDisk&>(log.disk).bytes(name);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      MemoryDisk damaged = log.disk.copy();
      damaged.bytes(name).resize(size);
      check_damage(log, damaged, segment, size, whole.size());
    }
  }
}

TEST_CASE("a log of three segments with any byte wrong", "[recovery_damage]") {
  const bool closed = GENERATE(true, false);
  const ThreeSegments log(closed);
  std::mt19937 random(11);
  bool refused_any = false;
  for (std::uint64_t segment = 1; segment <= 3; ++segment) {
    const std::string name = segment_name(segment);
    for (std::size_t at = 0; at < LogWriter::kSegmentBytesMin; ++at) {
      MemoryDisk damaged = log.disk.copy();
      char& byte = damaged.bytes(name)[at];
      byte = static_cast<char>(byte ^ (1 + random() % 255));
      refused_any |= check_damage(log, damaged, segment, at, at + 1);
    }
  }
  CHECK(refused_any);
}

TEST_CASE("a byte wrong above the mark is a torn tail, reported in bytes", "[recovery_damage]") {
  const ThreeSegments log(false);
  const Written& last = log.groups.back();
  REQUIRE(last.header.records > 0);
  for (std::uint64_t at = last.offset; at < last.offset + last.header.size(); ++at) {
    MemoryDisk damaged = log.disk.copy();
    damaged.bytes(segment_name(3))[at] ^= 0x40;
    const Recovered recovered = recover_all(damaged);
    REQUIRE(recovered.report.ok());
    REQUIRE(recovered.records.size() == last.header.first - 1);
    REQUIRE(recovered.report.tail_bytes >= last.header.size() - 7);
    REQUIRE(recovered.report.tail_bytes <= last.header.size() + 7);
  }
}

TEST_CASE("after a clean end any wrong byte of a record is refused, that of the last one too", "[recovery_damage]") {
  const ThreeSegments log(true);
  for (const Written& group : log.groups) {
    for (std::uint32_t at = 0; at < group.header.bytes; ++at) {
      MemoryDisk damaged = log.disk.copy();
      damaged.bytes(segment_name(group.segment))[group.offset + kGroupHeaderBytes + at] ^= 0x01;
      REQUIRE(recover_all(damaged).report.status == RecoveryStatus::kDamaged);
    }
  }
}

TEST_CASE("a segment that is gone is refused unless it was applied", "[recovery_damage]") {
  const ThreeSegments log(true);
  for (std::uint64_t segment = 1; segment <= 2; ++segment) {
    MemoryDisk damaged = log.disk.copy();
    REQUIRE_FALSE(damaged.remove(segment_name(segment)));
    CHECK(recover_all(damaged).report.status == RecoveryStatus::kDamaged);
    CHECK(recover_all(damaged, true).report.lost.size() == 1);
  }
}

TEST_CASE("damage in several places is reported in all of them", "[recovery_damage]") {
  const ThreeSegments log(true);
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    MemoryDisk damaged = log.disk.copy();
    for (int i = 0; i < 5; ++i) {
      char& byte = damaged.bytes(segment_name(1 + random() % 3))[random() % LogWriter::kSegmentBytesMin];
      byte = static_cast<char>(byte ^ (1 + random() % 255));
    }
    MemoryDisk disk = damaged.copy();
    const Recovered recovered = recover_all(disk, true);
    REQUIRE(recovered.report.ok());
    std::uint64_t missing = 0;
    for (const Loss& lost : recovered.report.lost) missing += lost.last - lost.first + 1;
    REQUIRE(recovered.records.size() + missing == recovered.report.last);
    for (Kept record : recovered.records) {
      record.in_doubt = false;
      REQUIRE(record == made_up(record.sequence));
    }
    REQUIRE((recover_all(damaged).report.ok() == recovered.report.lost.empty()));
  }
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
