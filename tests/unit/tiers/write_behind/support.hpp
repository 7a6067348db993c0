// What the tests of the write-behind log share: records that say what they are, and what recovery hands over.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/tiers/write_behind/memory_disk.hpp"
#include "tiers/write_behind/log_writer.hpp"
#include "tiers/write_behind/recovery.hpp"

namespace nearcached::tiers::write_behind::testing {

inline constexpr std::int64_t kNowMs = 1'790'000'000'000;
inline constexpr std::uint64_t kLogId = 0x1122334455667788;

inline Record set_of(std::string_view key, std::string_view value, std::int64_t expires_at_ms = 0) {
  return {RecordKind::kSet, 0, expires_at_ms, key, value};
}

inline std::uint64_t append(Group& group, const Record& record) { return group.append(record, begin_checksum(record)); }

// A record with storage of its own.
struct Kept {
  std::uint64_t sequence = 0;
  RecordKind kind = RecordKind::kSet;
  std::uint32_t database = 0;
  std::int64_t expires_at_ms = 0;
  std::string key, value;
  bool in_doubt = false;

  bool operator==(const Kept&) const = default;
};

inline Kept keep(std::uint64_t sequence, const Record& record, bool in_doubt = false) {
  return {sequence, record.kind, record.database, record.expires_at_ms, std::string(record.key), std::string(record.value),
          in_doubt};
}

struct Recovered {
  RecoveryReport report;
  std::vector<Kept> records;
};

inline Recovered recover_all(Disk& disk, bool skip_damaged = false) {
  Recovered recovered;
  recovered.report = recover(disk, {skip_damaged, kLogId}, [&](const RecoveredRecord& record) {
    recovered.records.push_back(keep(record.sequence, record.record, record.in_doubt));
  });
  return recovered;
}

// Record `sequence` of a made-up history: a few keys, values that name the sequence, of a length that differs.
inline Kept made_up(std::uint64_t sequence) {
  Kept kept;
  kept.sequence = sequence;
  kept.key = "key:" + std::to_string(sequence % 7);
  kept.database = static_cast<std::uint32_t>(sequence % 2);
  if (sequence % 11 == 5) {
    kept.kind = RecordKind::kDelete;
    return kept;
  }
  kept.expires_at_ms = sequence % 3 == 0 ? kNowMs + static_cast<std::int64_t>(sequence) : 0;
  if (sequence % 13 == 6) {
    kept.kind = RecordKind::kExpire;
    return kept;
  }
  kept.value = std::to_string(sequence) + std::string(sequence * 37 % 90, static_cast<char>('a' + sequence % 26)) +
               std::string(sequence % 4, '\0');
  return kept;
}

inline Record view_of(const Kept& kept) { return {kept.kind, kept.database, kept.expires_at_ms, kept.key, kept.value}; }

inline Group group_of(std::uint64_t first, std::uint32_t records) {
  Group group;
  group.first = first;
  for (std::uint32_t i = 0; i < records; ++i) append(group, view_of(made_up(first + i)));
  return group;
}

}  // namespace nearcached::tiers::write_behind::testing
