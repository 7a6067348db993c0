#include "tiers/write_behind/segment_scan.hpp"

#include <algorithm>

namespace nearcached::tiers::write_behind {
namespace {

std::uint64_t without_zeros(std::string_view bytes) {
  const std::size_t last = bytes.find_last_not_of('\0');
  return last == std::string_view::npos ? 0 : last + 1;
}

class Scanner {
 public:
  Scanner(std::string_view bytes, std::optional<std::uint64_t> log_id) : bytes_(bytes), log_id_(log_id) {}

  SegmentScan run() {
    scan_.size = bytes_.size();
    scan_.used = without_zeros(bytes_);
    scan_.header = decode_segment_header(bytes_);
    if (scan_.header && !log_id_) log_id_ = scan_.header->log_id;
    std::uint64_t at = scan_.header ? kSegmentHeaderBytes : 0;
    while (at < scan_.used) {
      const std::uint64_t next = next_group(at);
      if (next > at) note_damage(at, std::min(next, scan_.used));
      if (next >= scan_.used) break;
      at = take_group(next);
    }
    if (!scan_.groups.empty()) scan_.used = std::max(scan_.used, std::min(scan_.groups.back().end(), scan_.size));
    return std::move(scan_);
  }

 private:
  [[nodiscard]] std::optional<GroupHeader> header_at(std::uint64_t at) const {
    const std::optional<GroupHeader> header = decode_group_header(bytes_.substr(at));
    return header && header->first >= next_ && (!log_id_ || header->log_id == *log_id_) ? header : std::nullopt;
  }

  // The offset of the next sound header, from `at` on; `used` if there is none.
  [[nodiscard]] std::uint64_t next_group(std::uint64_t at) const {
    for (at = aligned(std::max<std::uint64_t>(at, kSegmentHeaderBytes)); at < scan_.used; at += kAlignment) {
      if (header_at(at)) return at;
    }
    return scan_.used;
  }

  // Returns where to go on.
  std::uint64_t take_group(std::uint64_t at) {
    ScannedGroup group;
    group.offset = at;
    group.header = *header_at(at);
    if (!log_id_) log_id_ = group.header.log_id;
    const std::uint64_t end = std::min(group.end(), scan_.size);
    std::string_view rest = bytes_.substr(at, end - at).substr(kGroupHeaderBytes);
    while (group.sound < group.header.records) {
      const std::optional<ParsedRecord> parsed = parse_record(rest);
      if (!parsed || parsed->sequence != group.header.first + group.sound) break;
      const RecordKind kind = parsed->record.kind;
      scan_.supersedes |= kind == RecordKind::kSuperseded || kind == RecordKind::kSupersededAll;
      rest.remove_prefix(parsed->bytes);
      ++group.sound;
    }
    if (!group.whole()) note_damage(end - rest.size(), end);
    scan_.groups.push_back(group);
    next_ = group.header.last() + 1;
    return aligned(end);
  }

  void note_damage(std::uint64_t from, std::uint64_t to) { scan_.damage.push_back({from, to - from}); }

  const std::string_view bytes_;
  std::optional<std::uint64_t> log_id_;
  std::uint64_t next_ = 1;  // no later group begins before: one that does stands where it was never written
  SegmentScan scan_;
};

}  // namespace

SegmentScan scan_segment(std::string_view bytes, std::optional<std::uint64_t> log_id) {
  return Scanner(bytes, log_id).run();
}

}  // namespace nearcached::tiers::write_behind
