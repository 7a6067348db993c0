// The example of docs/wal_format.md is what the code writes, byte by byte.
#include <catch2/catch.hpp>
#include <cstdio>
#include <fstream>
#include <string>

#include "tests/unit/tiers/write_behind/support.hpp"

namespace nearcached::tiers::write_behind {
namespace {

using namespace testing;

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    char pair[4];
    std::snprintf(pair, sizeof pair, "%02x ", static_cast<unsigned char>(byte));
    text += pair;
  }
  return text;
}

// The pairs of digits at the head of each line of the block that begins with ```wal; what follows two spaces is comment.
std::string hex_of_manual() {
  std::ifstream manual(std::string(NEARCACHED_SOURCE_DIR) + "/docs/wal_format.md");
  REQUIRE(manual);
  std::string text, line;
  bool inside = false;
  while (std::getline(manual, line)) {
    if (line.starts_with("```")) {
      inside = line == "```wal";
    } else if (inside) {
      text += line.substr(0, line.find("  ")) + " ";
    }
  }
  return text;
}

TEST_CASE("the example of the manual is what is written", "[wal_format]") {
  MemoryDisk disk;
  LogStart start;
  start.log_id = kLogId;
  LogWriter writer(disk, start, {LogWriter::kSegmentBytesMin});
  Group group;
  append(group, set_of("user:7", "Ada", 1'790'000'060'000));
  append(group, {RecordKind::kDelete, 3, 0, "k1", ""});
  REQUIRE(writer.commit(group, kNowMs));
  group.clear();
  writer.checkpoint(1);
  REQUIRE(writer.commit(group, kNowMs + 100));
  const std::string& bytes = disk.bytes(segment_name(1));
  CHECK(hex(bytes.substr(0, scan_segment(bytes, kLogId).used)) == hex_of_manual());
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
