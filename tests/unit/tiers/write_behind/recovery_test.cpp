#include "tiers/write_behind/recovery.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/unit/tiers/write_behind/support.hpp"

namespace nearcached::tiers::write_behind {
namespace {

using namespace testing;

// A log that is written group by group, one record each unless given more.
class Writing {
 public:
  explicit Writing(MemoryDisk& disk, const LogStart& start = new_start())
      : writer_(disk, start, {LogWriter::kSegmentBytesMin}), group_(start.pending) {
    if (group_.records > 0) put({});
  }
  Writing& put(std::initializer_list<Record> records) {
    for (const Record& record : records) append(group_, record);
    REQUIRE(writer_.commit(group_, kNowMs + static_cast<std::int64_t>(group_.first)));
    group_.clear();
    return *this;
  }
  Writing& mark(std::uint64_t checkpoint = 0) {
    writer_.checkpoint(checkpoint);
    return put({});
  }

 private:
  static LogStart new_start() {
    LogStart start;
    start.log_id = kLogId;
    return start;
  }

  LogWriter writer_;
  Group group_;
};

Record superseded(std::string_view key, std::uint32_t database = 0) {
  return {RecordKind::kSuperseded, database, 0, key, ""};
}

std::vector<std::uint64_t> sequences(const Recovered& recovered) {
  std::vector<std::uint64_t> sequences;
  for (const Kept& record : recovered.records) sequences.push_back(record.sequence);
  return sequences;
}

using Sequences = std::vector<std::uint64_t>;

TEST_CASE("an empty directory is an empty log", "[recovery]") {
  MemoryDisk disk;
  const Recovered recovered = recover_all(disk);
  CHECK(recovered.report.ok());
  CHECK(recovered.report.start.log_id == kLogId);
  CHECK(recovered.report.start.next_segment == 1);
  CHECK(recovered.report.start.pending.next() == 1);
  const RecoveryReport random = recover(disk, {}, [](const RecoveredRecord&) {});
  CHECK(random.start.log_id != 0);
  CHECK(random.start.log_id != recover(disk, {}, [](const RecoveredRecord&) {}).start.log_id);
}

TEST_CASE("what is not applied comes back in order, with the time it was written", "[recovery]") {
  MemoryDisk disk;
  Writing(disk).put({set_of("a", "1"), set_of("b", "2", 99)}).put({{RecordKind::kDelete, 4, 0, "c", ""}}).mark(1);
  std::vector<std::int64_t> times;
  std::vector<Kept> records;
  const RecoveryReport report = recover(disk, {}, [&](const RecoveredRecord& record) {
    records.push_back(keep(record.sequence, record.record, record.in_doubt));
    times.push_back(record.written_at_ms);
  });
  CHECK(records == std::vector<Kept>{keep(2, set_of("b", "2", 99)), keep(3, {RecordKind::kDelete, 4, 0, "c", ""})});
  CHECK(times == std::vector<std::int64_t>{kNowMs + 1, kNowMs + 3});
  CHECK(report.records == 2);
  CHECK(report.last == 3);
  CHECK(report.marks == Marks{3, 1});
}

TEST_CASE("records of a key that was written past the log later are left out, of that database only", "[recovery]") {
  MemoryDisk disk;
  Writing(disk)
      .put({set_of("a", "1"), set_of("b", "2"), {RecordKind::kSet, 1, 0, "a", "3"}})
      .put({superseded("a")})
      .put({set_of("a", "5"), superseded("a", 7)});
  const Recovered recovered = recover_all(disk);
  CHECK(sequences(recovered) == Sequences{2, 3, 5});
  CHECK(recovered.report.superseded == 1);
}

TEST_CASE("what supersedes all of a database, or of all, leaves out all before it", "[recovery]") {
  MemoryDisk disk;
  Writing(disk)
      .put({set_of("a", "1"), {RecordKind::kSet, 1, 0, "a", "2"}, {RecordKind::kSupersededAll, 1, 0, "", ""}})
      .put({{RecordKind::kSet, 1, 0, "a", "4"}});
  CHECK(sequences(recover_all(disk)) == Sequences{1, 4});
  Writing(disk, recover_all(disk).report.start)
      .put({{RecordKind::kSupersededAll, kAllDatabases, 0, "", ""}, set_of("z", "")});
  CHECK(sequences(recover_all(disk)) == Sequences{6});
}

TEST_CASE("what was superseded in groups that were cut is not", "[recovery]") {
  MemoryDisk disk;
  Writing(disk).put({set_of("a", "1")}).put({superseded("a")});
  std::string& bytes = disk.bytes(segment_name(1));
  bytes.resize(bytes.find_last_not_of('\0'));
  const Recovered recovered = recover_all(disk);
  CHECK(sequences(recovered) == Sequences{1});
  CHECK(recovered.report.tail_bytes > 0);
}

TEST_CASE("records above the mark are written again, and their sequences go on", "[recovery]") {
  MemoryDisk disk;
  Writing(disk).put({set_of("a", "1")}).put({set_of("b", "2"), set_of("c", "3")});
  const Recovered first = recover_all(disk);
  CHECK(first.report.marks.durable == 1);
  const Group& pending = first.report.start.pending;
  CHECK(pending.first == 2);
  CHECK(pending.records == 2);
  CHECK(first.report.start.next_segment == 2);
  Writing(disk, first.report.start).put({set_of("d", "4")});
  CHECK(sequences(recover_all(disk)) == Sequences{1, 2, 3, 4});
  disk.bytes(segment_name(1))[kSegmentHeaderBytes + 150] ^= 1;  // in the second group: it stands in the second segment too
  const Recovered damaged = recover_all(disk);
  CHECK(sequences(damaged) == Sequences{1, 2, 3, 4});
  CHECK(damaged.report.skipped_bytes > 0);
}

TEST_CASE("a torn tail is cut for good, so that its sequences can be given out again", "[recovery]") {
  MemoryDisk disk;
  Writing(disk).put({set_of("a", "1")}).put({set_of("b", "old")}).put({set_of("c", "old")});
  const std::string whole = disk.bytes(segment_name(1));
  std::string& bytes = disk.bytes(segment_name(1));
  const SegmentScan scan = scan_segment(bytes, kLogId);
  bytes[scan.groups[1].offset] ^= 1;
  for (std::size_t at = scan.groups[2].offset; at < bytes.size(); ++at) bytes[at] = '\0';
  const Recovered recovered = recover_all(disk);
  CHECK(sequences(recovered) == Sequences{1});
  CHECK(recovered.report.tail_bytes > 0);
  CHECK(disk.bytes(segment_name(1)).size() == scan.groups[0].end());
  Writing(disk, recovered.report.start).put({set_of("x", "new")});
  const Recovered again = recover_all(disk);
  REQUIRE(sequences(again) == Sequences{1, 2});
  CHECK(again.records[1].value == "new");
  CHECK(again.report.tail_bytes == 0);
}

TEST_CASE("damage below the mark says segment, offset, bytes, records and option, and changes nothing", "[recovery]") {
  MemoryDisk disk;
  Writing(disk).put({set_of("a", "1")}).put({set_of("b", "2")}).put({set_of("a", "3")}).mark();
  const SegmentScan scan = scan_segment(disk.bytes(segment_name(1)), kLogId);
  disk.bytes(segment_name(1))[scan.groups[1].offset + 3] ^= 1;
  const std::string before = disk.bytes(segment_name(1));
  const Recovered recovered = recover_all(disk);
  CHECK(recovered.report.status == RecoveryStatus::kDamaged);
  CHECK(recovered.records.empty());
  const std::uint64_t bytes = scan.groups[2].offset - scan.groups[1].offset;
  CHECK(recovered.report.error ==
        "segment 0000000000000001.wal at offset " + std::to_string(scan.groups[1].offset) + ": " + std::to_string(bytes) +
            " bytes are damaged; record 2 can't be read, acknowledged and perhaps not yet applied upstream; "
            "--wal-skip-damaged goes on without what is damaged");
  CHECK(disk.bytes(segment_name(1)) == before);

  const Recovered skipped = recover_all(disk, true);
  CHECK(skipped.report.ok());
  CHECK(sequences(skipped) == Sequences{1, 3});
  CHECK(skipped.report.skipped_bytes == bytes);
  CHECK(skipped.records[0].in_doubt);
  CHECK_FALSE(skipped.records[1].in_doubt);
  REQUIRE(skipped.report.lost.size() == 1);
  CHECK(skipped.report.start.pending.next() == 4);
}

TEST_CASE("a segment of another log, under another name, or of a newer format is refused by name", "[recovery]") {
  MemoryDisk disk;
  Writing(disk).put({set_of("a", "1")}).mark();
  const auto put = [&](const std::string& name, const SegmentHeader& header) {
    const auto bytes = encode(header);
    disk.put(name, std::string(bytes.data(), bytes.size()));
  };
  put(segment_name(2), {2, kLogId + 1, {}, kFormatVersion});
  CHECK(recover_all(disk).report.status == RecoveryStatus::kForeignLog);
  CHECK(recover_all(disk).report.error.find(segment_name(2) + " belongs to another log") == 0);
  put(segment_name(2), {3, kLogId, {}, kFormatVersion});
  CHECK(recover_all(disk).report.status == RecoveryStatus::kForeignLog);
  CHECK(recover_all(disk).report.error.find(segment_name(2) + " was written as " + segment_name(3)) == 0);
  put(segment_name(2), {2, kLogId, {}, kFormatVersion + 1});
  CHECK(recover_all(disk).report.status == RecoveryStatus::kNewerVersion);
  CHECK(recover_all(disk).report.error.find(segment_name(2) + " has format version 2") == 0);
  put(segment_name(2), {2, kLogId, {}, kFormatVersion});
  CHECK(recover_all(disk).report.ok());
}

TEST_CASE("files with other names are counted and left alone", "[recovery]") {
  MemoryDisk disk;
  Writing(disk).put({set_of("a", "1")}).mark();
  disk.put("lock", "");
  disk.put("0000000000000000.wal", "ours begin at 1");
  disk.put("README", "x");
  const Recovered recovered = recover_all(disk);
  CHECK(recovered.report.ok());
  CHECK(recovered.report.ignored_files == 3);
  CHECK(disk.has("README"));
}

TEST_CASE("a disk that can't be read or cut is said by name", "[recovery]") {
  MemoryDisk disk;
  Writing(disk).put({set_of("a", "1")}).put({set_of("b", "2")});
  disk.unreadable = segment_name(1);
  CHECK(recover_all(disk).report.status == RecoveryStatus::kDisk);
  CHECK(recover_all(disk).report.error.find(segment_name(1)) == 0);
  disk.unreadable.clear();
  for (const std::uint64_t operation : {0, 1}) {
    disk.bytes(segment_name(1)).back() = 'x';
    disk.fault = Fault::kIo;
    disk.fault_at = disk.operations + operation;
    CHECK(recover_all(disk).report.status == RecoveryStatus::kDisk);
  }
  disk.fault = Fault::kNone;
  CHECK(sequences(recover_all(disk)) == Sequences{1, 2});
}

TEST_CASE("a log that was applied to its end begins again behind it", "[recovery]") {
  MemoryDisk disk;
  Writing(disk).put({set_of("a", "1"), set_of("b", "2")}).mark(2);
  const Recovered recovered = recover_all(disk);
  CHECK(recovered.records.empty());
  CHECK(recovered.report.start.pending.next() == 3);
  CHECK(recovered.report.start.log_id == kLogId);
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
