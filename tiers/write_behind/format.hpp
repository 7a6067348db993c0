// The headers of the log's segments and groups, and the names of its files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nearcached::tiers::write_behind {

// A segment is a file: its header, then groups, each at a multiple of 8, then the zeros it was preallocated with.
//
//     +----------------+---------------------------+-----+---------------------------+-----+-------- - -
//     | segment header | group header | records    | pad | group header | records    | pad | zeros
//     +----------------+---------------------------+-----+---------------------------+-----+-------- - -
//
// All numbers are little-endian. docs/wal_format.md is the format's document, with an example.
inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::size_t kAlignment = 8;
inline constexpr std::size_t kSegmentHeaderBytes = 48;
inline constexpr std::size_t kGroupHeaderBytes = 56;

[[nodiscard]] constexpr std::uint64_t aligned(std::uint64_t bytes) noexcept {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// What every header says of the log as a whole, true when it was written. Repeated in each, so that no damage to one place
// takes it away; that is why a checkpoint is no record: as a record it would need a sequence, which no checkpoint could ever
// cover, and one damaged byte could take it.
struct Marks {
  std::uint64_t durable = 0;     // every record up to this sequence was durable
  std::uint64_t checkpoint = 0;  // every record up to this sequence had been applied upstream; at most `durable`

  bool operator==(const Marks&) const = default;
};

// Laid out so in every version of the format.
struct SegmentHeader {
  std::uint64_t number = 0;
  std::uint64_t log_id = 0;  // random, of the directory
  Marks marks;
  std::uint32_t version = kFormatVersion;

  bool operator==(const SegmentHeader&) const = default;
};

struct GroupHeader {
  std::uint32_t bytes = 0;  // of its records
  std::uint32_t records = 0;
  std::uint64_t log_id = 0;  // nobody who writes a value can forge a group in it
  std::uint64_t first = 0;   // sequence of its first record; of none: the next one to be given out
  Marks marks;
  std::int64_t written_at_ms = 0;  // unix time

  [[nodiscard]] std::uint64_t last() const noexcept { return first + records - 1; }  // of none: first - 1
  [[nodiscard]] std::uint64_t size() const noexcept { return kGroupHeaderBytes + bytes; }
  bool operator==(const GroupHeader&) const = default;
};

[[nodiscard]] std::array<char, kSegmentHeaderBytes> encode(const SegmentHeader& header) noexcept;
[[nodiscard]] std::array<char, kGroupHeaderBytes> encode(const GroupHeader& header) noexcept;

// The header at the front; nothing unless it is whole and its checksum agrees. The version may be any.
[[nodiscard]] std::optional<SegmentHeader> decode_segment_header(std::string_view bytes) noexcept;
[[nodiscard]] std::optional<GroupHeader> decode_group_header(std::string_view bytes) noexcept;

// "00000000000000a1.wal"; nothing for any other name.
[[nodiscard]] std::string segment_name(std::uint64_t number);
[[nodiscard]] std::optional<std::uint64_t> segment_number(std::string_view name) noexcept;

}  // namespace nearcached::tiers::write_behind
