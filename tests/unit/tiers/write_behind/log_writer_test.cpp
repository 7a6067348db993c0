#include "tiers/write_behind/log_writer.hpp"

#include <catch2/catch.hpp>
#include <string>

#include "tests/unit/tiers/write_behind/support.hpp"

namespace nearcached::tiers::write_behind {
namespace {

using namespace testing;

LogStart start_of_new() {
  LogStart start;
  start.log_id = kLogId;
  return start;
}

constexpr LogWriter::Options kSmall{LogWriter::kSegmentBytesMin};

// Writes groups of `each` records until `last`; returns the writer's view of how far it is durable.
std::uint64_t write_until(LogWriter& writer, std::uint64_t last, std::uint32_t each = 5) {
  for (std::uint64_t next = writer.durable() + 1; next <= last; next += each)
    REQUIRE(writer.commit(group_of(next, each), kNowMs));
  return writer.durable();
}

TEST_CASE("a commit is a write and a sync; the first of a segment makes its name durable too", "[log_writer]") {
  MemoryDisk disk;
  LogWriter writer(disk, start_of_new(), kSmall);
  REQUIRE(writer.commit(group_of(1, 5), kNowMs));
  CHECK(disk.operations == 4);  // create, write, sync, directory
  REQUIRE(writer.commit(group_of(6, 5), kNowMs));
  CHECK(disk.operations == 6);
  CHECK(writer.durable() == 10);
  CHECK(writer.stats().groups.value() == 2);
  CHECK(writer.stats().records.value() == 10);
  CHECK(writer.stats().group_records[3].value() == 2);
  CHECK(disk.bytes(segment_name(1)).size() == LogWriter::kSegmentBytesMin);
}

TEST_CASE("a header says what was durable before its group", "[log_writer]") {
  MemoryDisk disk;
  LogWriter writer(disk, start_of_new(), kSmall);
  write_until(writer, 10);
  writer.checkpoint(7);
  CHECK(writer.wants_mark());
  Group none;
  none.first = 11;
  REQUIRE(writer.commit(none, kNowMs));
  CHECK_FALSE(writer.wants_mark());
  CHECK(writer.checkpointed() == 7);
  const SegmentScan scan = scan_segment(disk.bytes(segment_name(1)), kLogId);
  REQUIRE(scan.groups.size() == 3);
  CHECK(scan.groups[0].header.marks == Marks{0, 0});
  CHECK(scan.groups[1].header.marks == Marks{5, 0});
  CHECK(scan.groups[2].header.marks == Marks{10, 7});
}

TEST_CASE("a checkpoint ahead of what is durable waits for it", "[log_writer]") {
  MemoryDisk disk;
  LogWriter writer(disk, start_of_new(), kSmall);
  writer.checkpoint(8);
  write_until(writer, 5);
  CHECK(writer.checkpointed() == 0);
  write_until(writer, 10);
  CHECK(writer.checkpointed() == 5);
  write_until(writer, 15);
  CHECK(writer.checkpointed() == 8);
}

TEST_CASE("a segment that is full is followed by another", "[log_writer]") {
  MemoryDisk disk;
  LogWriter writer(disk, start_of_new(), kSmall);
  write_until(writer, 200);
  CHECK(disk.names().size() > 3);
  CHECK(writer.stats().segments.value() == disk.names().size());
  CHECK(writer.stats().bytes.value() == disk.names().size() * LogWriter::kSegmentBytesMin);
  CHECK(writer.stats().filled_bytes.value() <= writer.stats().bytes.value());
  MemoryDisk left = disk.after_crash(1);
  CHECK(recover_all(left).report.last == 200);
}

TEST_CASE("a group larger than a segment gets one of its own size", "[log_writer]") {
  MemoryDisk disk;
  LogWriter writer(disk, start_of_new(), kSmall);
  write_until(writer, 5);
  Group large;
  large.first = 6;
  const std::string value(100'000, 'v');
  append(large, set_of("k", value));
  REQUIRE(writer.commit(large, kNowMs));
  write_until(writer, 11);
  CHECK(disk.bytes(segment_name(2)).size() > 100'000);
  CHECK(disk.bytes(segment_name(2)).size() < 101'000);
  CHECK(disk.names().size() == 3);
  Recovered recovered = recover_all(disk);
  REQUIRE(recovered.records.size() == 11);
  CHECK(recovered.records[5].value == value);
}

TEST_CASE("segments of which everything is applied go once the checkpoint is durable", "[log_writer]") {
  MemoryDisk disk;
  LogWriter writer(disk, start_of_new(), kSmall);
  write_until(writer, 200);
  const std::size_t before = disk.names().size();
  writer.checkpoint(100);
  CHECK(disk.names().size() == before);
  write_until(writer, 205);
  const std::size_t between = disk.names().size();
  CHECK(between < before);
  CHECK_FALSE(disk.has(segment_name(1)));
  Recovered half = recover_all(disk);
  CHECK(half.report.marks.checkpoint == 100);
  REQUIRE(half.records.size() == 105);
  CHECK(half.records.front() == made_up(101));

  LogWriter again(disk, half.report.start, kSmall);
  REQUIRE(again.commit(half.report.start.pending, kNowMs));
  again.checkpoint(205);
  Group none;
  none.first = 206;
  REQUIRE(again.commit(none, kNowMs));
  CHECK(disk.names().size() == 1);
  CHECK(recover_all(disk).records.empty());
}

TEST_CASE("a segment that can't be removed is tried again with the next group", "[log_writer]") {
  MemoryDisk disk;
  LogWriter writer(disk, start_of_new(), kSmall);
  write_until(writer, 100);
  writer.checkpoint(100);
  disk.fault = Fault::kIo;
  disk.fault_at = disk.operations + 2;
  REQUIRE(writer.commit(group_of(101, 1), kNowMs));
  CHECK(writer.stats().removals_failed.value() == 1);
  CHECK(disk.has(segment_name(1)));
  REQUIRE(writer.commit(group_of(102, 1), kNowMs));
  CHECK_FALSE(disk.has(segment_name(1)));
}

TEST_CASE("after any failure the file is left alone, and the group stands in a new segment", "[log_writer]") {
  const auto [fault, at] = GENERATE(std::pair{Fault::kShortWrite, 0}, std::pair{Fault::kNoSpace, 0},
                                    std::pair{Fault::kIo, 0}, std::pair{Fault::kIo, 1});
  MemoryDisk disk;
  LogWriter writer(disk, start_of_new(), kSmall);
  write_until(writer, 10);
  disk.fault = fault;
  disk.fault_at = disk.operations + static_cast<std::uint64_t>(at);
  REQUIRE(writer.commit(group_of(11, 3), kNowMs));
  REQUIRE(writer.commit(group_of(14, 3), kNowMs));
  CHECK(disk.misuse == 0);
  CHECK(writer.stats().failures.value() == 1);
  CHECK_FALSE(writer.failure().empty());
  CHECK(disk.names().size() == 2);
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    MemoryDisk left = disk.after_crash(seed);
    const Recovered recovered = recover_all(left);
    REQUIRE(recovered.report.ok());
    REQUIRE(recovered.records.size() == 16);
  }
}

TEST_CASE("a disk that goes on failing is said, leaves no files behind, and the group can be given again", "[log_writer]") {
  MemoryDisk disk;
  LogWriter writer(disk, start_of_new(), kSmall);
  write_until(writer, 10);
  disk.fault = Fault::kNoSpace;
  disk.fault_at = disk.operations;
  disk.fault_count = 1000;
  Group group = group_of(11, 3);
  for (int i = 0; i < 5; ++i) CHECK_FALSE(writer.commit(group, kNowMs));
  CHECK(writer.failure().find("No space left on device") != std::string::npos);
  CHECK(writer.durable() == 10);
  CHECK(disk.names().size() == 1);
  disk.fault = Fault::kNone;
  append(group, set_of("one more", "v"));
  REQUIRE(writer.commit(group, kNowMs));
  CHECK(writer.durable() == 14);
  CHECK(disk.misuse == 0);
}

TEST_CASE("a full disk takes a checkpoint, which frees what is before it", "[log_writer]") {
  MemoryDisk disk;
  disk.capacity = 2 * LogWriter::kSegmentBytesMin + 300;
  LogWriter writer(disk, start_of_new(), kSmall);
  std::uint64_t last = 0;
  while (writer.commit(group_of(last + 1, 5), kNowMs)) last += 5;
  CHECK(disk.names().size() >= 2);
  CHECK(writer.durable() == last);
  writer.checkpoint(last);
  CHECK_FALSE(writer.commit(group_of(last + 1, 5), kNowMs));
  CHECK(writer.checkpointed() == last);
  CHECK(disk.names().size() == 1);
  CHECK(writer.commit(group_of(last + 1, 5), kNowMs));
  CHECK(writer.durable() == last + 5);
  CHECK(disk.misuse == 0);
}

TEST_CASE("where there is no place for a whole segment one as small as the group is made", "[log_writer]") {
  MemoryDisk disk;
  disk.capacity = LogWriter::kSegmentBytesMin + 1000;
  LogWriter writer(disk, start_of_new(), kSmall);
  std::uint64_t last = 0;
  while (!disk.has(segment_name(2)) && writer.commit(group_of(last + 1, 5), kNowMs)) last += 5;
  REQUIRE(disk.has(segment_name(2)));
  CHECK(disk.bytes(segment_name(2)).size() < 1000);
  CHECK(writer.durable() == last);
}

TEST_CASE("options out of range are brought into it", "[log_writer]") {
  MemoryDisk disk;
  LogWriter writer(disk, start_of_new(), {1});
  write_until(writer, 5);
  CHECK(disk.bytes(segment_name(1)).size() == LogWriter::kSegmentBytesMin);
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
