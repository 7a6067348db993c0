// Whatever becomes of the bytes of a log, recovery hands over records as they were appended, ascending, or says why not;
// what it has recovered once it recovers again, with nothing left to cut. Input: edits of five bytes on a log of three
// segments: what, which segment, offset (2), value. Then, behind a byte 0xff, a fourth segment's bytes.
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzzing.hpp"
#include "tests/unit/tiers/write_behind/support.hpp"

namespace {

using namespace nearcached::tiers::write_behind;
using namespace nearcached::tiers::write_behind::testing;
using nearcached::fuzz::require;

constexpr std::uint64_t kRecords = 100;  // some into the third segment
constexpr std::size_t kEditBytes = 5;
constexpr std::size_t kMovedBytes = 200;  // some groups

MemoryDisk make_log() {
  MemoryDisk disk;
  LogStart start;
  start.log_id = kLogId;
  LogWriter writer(disk, start, {LogWriter::kSegmentBytesMin});
  std::uint64_t next = 1;
  for (std::uint32_t records = 1; disk.names().size() < 3 || next < kRecords; records = (records + 1) % 5) {
    if (next > 30) writer.checkpoint(20);
    require(writer.commit(group_of(next, records), kNowMs), "it writes");
    next += records;
  }
  return disk;
}

void edit(MemoryDisk& disk, std::string_view what) {
  const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(what[i])); };
  std::string& bytes = disk.bytes(segment_name(1 + byte(1) % 3));
  if (bytes.empty()) return;
  const std::size_t at = (byte(2) << 8 | byte(3)) % bytes.size();
  switch (byte(0) % 4) {
    case 0: bytes[at] = what[4]; break;
    case 1: bytes.resize(at); break;
    case 2: bytes.replace(at, std::min(byte(4), bytes.size() - at), std::min(byte(4), bytes.size() - at), '\0'); break;
    default: {
      const std::string moved = bytes.substr(at / kAlignment * kAlignment, kMovedBytes);
      std::string& to = disk.bytes(segment_name(1 + byte(4) % 3));
      const std::size_t place = std::min(to.size(), byte(4) * 16);
      to.replace(place, std::min(moved.size(), to.size() - place), moved);
    }
  }
}

void check(const MemoryDisk& damaged, bool skip_damaged) {
  MemoryDisk disk = damaged.copy();
  const Recovered recovered = recover_all(disk, skip_damaged);
  require(recovered.report.ok() == recovered.report.error.empty(), "an error is said");
  require(recovered.report.ok() || recovered.records.empty(), "nothing is handed over with an error");
  if (!recovered.report.ok()) return;
  std::uint64_t last = recovered.report.marks.checkpoint;
  for (Kept record : recovered.records) {
    require(record.sequence > last && record.sequence <= recovered.report.last, "ascending, above the checkpoint");
    require(skip_damaged || record.sequence == last + 1, "in a row");
    require(skip_damaged || !record.in_doubt, "no doubt");
    last = record.sequence;
    record.in_doubt = false;
    require(record == made_up(record.sequence), "as it was appended");
  }
  const Recovered again = recover_all(disk, skip_damaged);
  require(again.report.ok() && again.records == recovered.records, "the same again");
  require(again.report.tail_bytes == 0, "nothing left to cut");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const MemoryDisk log = make_log();
  MemoryDisk damaged = log.copy();
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  while (rest.size() >= kEditBytes && rest.front() != '\xff') {
    edit(damaged, rest);
    rest.remove_prefix(kEditBytes);
  }
  if (!rest.empty() && rest.front() == '\xff') damaged.put(segment_name(4), std::string(rest.substr(1)));
  check(damaged, false);
  check(damaged, true);
  return 0;
}
