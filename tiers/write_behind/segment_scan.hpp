// What can be made out in the bytes of one segment, damaged or not.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "tiers/write_behind/format.hpp"
#include "tiers/write_behind/record.hpp"

namespace nearcached::tiers::write_behind {

// A group whose header is sound.
struct ScannedGroup {
  std::uint64_t offset = 0;
  GroupHeader header;
  std::uint32_t sound = 0;  // records at its front that are; all of them, unless it is damaged

  [[nodiscard]] bool whole() const noexcept { return sound == header.records; }
  [[nodiscard]] std::uint64_t end() const noexcept { return offset + header.size(); }
};

struct DamagedBytes {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;

  bool operator==(const DamagedBytes&) const = default;
};

struct SegmentScan {
  std::optional<SegmentHeader> header;  // nothing: it is damaged, or was never written
  std::vector<ScannedGroup> groups;     // by offset
  std::vector<DamagedBytes> damage;     // by offset; everything in front of `used` that is neither header, group nor padding
  std::uint64_t used = 0;               // all behind it are the zeros of the preallocation
  std::uint64_t size = 0;
  bool supersedes = false;  // has a record of kSuperseded or kSupersededAll
};

// Goes from group to group; behind a damaged header it looks at each multiple of kAlignment for the next one. A value that
// holds the bytes of a group is not taken for one: nobody outside knows the log's id. Sequences only rise within a segment.
// `log_id` is that of the log, if it is known; otherwise the segment's own header says it, or its first group.
[[nodiscard]] SegmentScan scan_segment(std::string_view bytes, std::optional<std::uint64_t> log_id);

// Calls visit(ParsedRecord) for the first `count` records of a group that was scanned in the same bytes.
template <typename Visit>
void for_each_record(std::string_view bytes, const ScannedGroup& group, std::uint32_t count, Visit visit) {
  if (group.offset + kGroupHeaderBytes > bytes.size()) return;  // not the same bytes any more
  std::string_view rest = bytes.substr(group.offset + kGroupHeaderBytes, group.header.bytes);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::optional<ParsedRecord> parsed = parse_record(rest);
    if (!parsed) return;
    visit(*parsed);
    rest.remove_prefix(parsed->bytes);
  }
}

}  // namespace nearcached::tiers::write_behind
