// What a start makes of the log that the last process left.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tiers/write_behind/disk.hpp"
#include "tiers/write_behind/record.hpp"
#include "tiers/write_behind/recovery_plan.hpp"

namespace nearcached::tiers::write_behind {

struct StoredSegment {
  std::uint64_t number = 0;
  std::uint64_t bytes = 0;  // of its file
  std::uint64_t last = 0;   // the highest sequence in it; 0: none
};

// Where the writer goes on: always in a new segment.
struct LogStart {
  std::uint64_t log_id = 0;
  std::uint64_t next_segment = 1;
  Marks marks;
  // The records above the durable mark. They may have been acknowledged, and it may be that they were only ever in the page
  // cache, where a failed sync leaves pages that look written: so they are written again, as after a failed sync.
  Group pending;
  std::vector<StoredSegment> segments;  // ascending
};

enum class RecoveryStatus : std::uint8_t {
  kRecovered,
  kDisk,          // the directory can't be listed, read or cut
  kDamaged,       // records that were acknowledged are missing; Options::skip_damaged goes on without them
  kForeignLog,    // segments of two logs, or one under another's name
  kNewerVersion,  // written by a newer nearcached
};

struct RecoveryReport {
  RecoveryStatus status = RecoveryStatus::kRecovered;
  std::string error;  // for the operator: what, where, and what can be done; empty if kRecovered

  Marks marks;
  std::uint64_t last = 0;             // highest sequence
  std::uint64_t segments = 0;         // read
  std::uint64_t records = 0;          // handed over
  std::uint64_t superseded = 0;       // left out: a write past the log came after them
  std::uint64_t tail_bytes = 0;       // cut: groups that were never acknowledged
  std::vector<Loss> lost;             // kDamaged, or skipped
  std::vector<SkippedBytes> skipped;  // damaged bytes below the tail, those that cost nothing included
  std::uint64_t skipped_bytes = 0;
  std::uint64_t ignored_files = 0;  // with names that are not ours

  LogStart start;  // if kRecovered

  [[nodiscard]] bool ok() const noexcept { return status == RecoveryStatus::kRecovered; }
};

struct RecoveredRecord {
  Record record;  // views live as long as the call
  std::uint64_t sequence = 0;
  std::int64_t written_at_ms = 0;  // unix time of its group
  // Records behind it were lost (skip_damaged), and one of them may have been a newer write of its key, or have superseded
  // it. Never set without skip_damaged.
  bool in_doubt = false;
};

struct RecoveryOptions {
  bool skip_damaged = false;
  std::uint64_t new_log_id = 0;  // of a log that begins; 0: random
};

// Scans, verifies, plans (recovery_plan.hpp), and if nothing is missing cuts the tail and hands over what is not applied
// yet: ascending, without what was superseded. Nothing is changed and nothing handed over unless the report is ok(), but a
// disk that fails may fail late, while records are handed over or the tail is cut: then too it is safe to begin again. Reads
// every segment once, those with records to replay up to three times (what supersedes must be known before the first is
// handed over, and marks before that): the page cache gives them back, and memory stays that of one segment and of the keys
// that were superseded.
[[nodiscard]] RecoveryReport recover(Disk& disk, const RecoveryOptions& options,
                                     const std::function<void(const RecoveredRecord&)>& replay);

}  // namespace nearcached::tiers::write_behind
