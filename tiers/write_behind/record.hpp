// What one deferred write is in the log, and its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nearcached::tiers::write_behind {

enum class RecordKind : std::uint8_t {
  kSet = 1,            // the key holds this string from now on, until expires_at_ms
  kDelete = 2,         // the key is gone
  kExpire = 3,         // only the expiry changes, to expires_at_ms; to never, if that is 0
  kSuperseded = 4,     // the key was, or is about to be, written past the log: its earlier records are not replayed
  kSupersededAll = 5,  // the same of all keys of the database
};

inline constexpr std::uint32_t kAllDatabases = 0xffffffff;  // with kSupersededAll

// Views belong to the caller, or point into the bytes that were parsed.
struct Record {
  RecordKind kind = RecordKind::kSet;
  std::uint32_t database = 0;
  std::int64_t expires_at_ms = 0;  // unix time; 0: never
  std::string_view key;
  std::string_view value;  // of kSet

  bool operator==(const Record&) const = default;
};

// Bytes, little-endian, not aligned (docs/wal_format.md has an example):
//
//     checksum 4 | length 4 | sequence 8 | expires_at_ms 8 | database 4 | key length 4 | kind 1 | zero 3 | key | value
//
// The checksum is that of the bytes from 16 (the expiry) to the end, and then of 4 to 15. In that order, since the sequence
// is known only under the lock that gives it out: all that takes long is summed before.
inline constexpr std::size_t kRecordHeadBytes = 36;

[[nodiscard]] std::size_t record_bytes(const Record& record) noexcept;

// The part of the checksum that the sequence has no part in.
[[nodiscard]] std::uint32_t begin_checksum(const Record& record) noexcept;

struct ParsedRecord {
  Record record;
  std::uint64_t sequence = 0;
  std::size_t bytes = 0;
};
// The record at the front; nothing unless it is whole, of a known kind, and its checksum agrees.
[[nodiscard]] std::optional<ParsedRecord> parse_record(std::string_view bytes) noexcept;

// Records with sequences in a row, as bytes: what one group of the log holds.
struct Group {
  std::uint64_t first = 1;  // sequence of the first record, or of the next one if there is none
  std::uint32_t records = 0;
  std::string bytes;

  [[nodiscard]] std::uint64_t next() const noexcept { return first + records; }
  // Returns the sequence given out. `begun`: begin_checksum() of this record.
  std::uint64_t append(const Record& record, std::uint32_t begun);
  // Empty, and goes on at next(). Keeps its memory up to kKeptBytes.
  void clear();

  static constexpr std::size_t kKeptBytes = std::size_t{4} << 20;
};

}  // namespace nearcached::tiers::write_behind
