// Writes groups into segments, and removes segments of which nothing is needed any more.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "tiers/insight/counters.hpp"
#include "tiers/write_behind/disk.hpp"
#include "tiers/write_behind/recovery.hpp"

namespace nearcached::tiers::write_behind {

// One commit() is one gathered write and one fdatasync; behind the first of a segment also one fsync of the directory.
//
// The rule after a failure: a file of which a write failed, came out short, or was not synced is never written or synced
// again. Pages that could not be written are clean for the kernel, so that a second fdatasync succeeds and proves nothing.
// The group, with the same sequences, goes to a new segment; if that fails too, commit() says so, and the caller keeps the
// group and calls again later. Recovery knows sequences that stand twice. A new segment that failed is removed at once, as
// far as the disk still does that, so that a full disk is not filled with attempts. Where there is no place for a new
// segment, one that is as small as the group is tried; and each segment keeps room for a group without records, so that a
// checkpoint can be written on a disk that is full, which frees what is before it.
//
// What it is bad at: the first commit of a segment waits for the reservation of its blocks as well (fallocate, some 0.1 ms
// on ext4), once per 64 MiB.
// Threading: confined to one thread, but stats are read from any. It reads the monotonic clock, for the sync's latency.
class LogWriter {
 public:
  static constexpr std::size_t kSegmentBytesMin = 4096;
  static constexpr std::size_t kSegmentBytesMax = std::size_t{1} << 30;

  struct Options {
    // Of a new segment's file, kSegmentBytesMin..kSegmentBytesMax; a larger group gets a segment of its own size.
    std::size_t segment_bytes = std::size_t{64} << 20;
  };

  static constexpr std::size_t kGroupSizes = 16;

  // Written by the writer's thread alone.
  struct Stats {
    insight::Counter segments;      // gauge: files
    insight::Counter bytes;         // gauge: of these files, preallocation included
    insight::Counter filled_bytes;  // gauge: the same without what is not yet used of the one being written
    insight::Counter records;       // committed
    insight::Counter groups;        // committed, those without records included
    insight::Counter failures;      // of create, write or sync
    insight::Counter removals_failed;
    insight::Histogram sync_latency;  // of fdatasync, also when it fails
    // By records of a group: 0, 1, 2..3, 4..7, and so on; the last is 16384 and more.
    std::array<insight::Counter, kGroupSizes> group_records;
  };

  // `disk` outlives it. start.pending is the caller's to commit first: until it is durable here, it may be nowhere.
  LogWriter(Disk& disk, const LogStart& start, Options options);

  // Writes the group and makes it durable; without records only the marks. True: all up to its last record is durable, and
  // so is the checkpoint, as far as it was durable before. False: nothing is known of it; failure() says why. The group must
  // then be given again before any other, it may have grown. `now_ms`: unix time.
  [[nodiscard]] bool commit(const Group& group, std::int64_t now_ms);
  // Everything up to the sequence has been applied upstream. The next commit writes it, and removes what it frees.
  void checkpoint(std::uint64_t sequence) noexcept;

  [[nodiscard]] std::uint64_t durable() const noexcept { return durable_; }
  // The checkpoint that is durable.
  [[nodiscard]] std::uint64_t checkpointed() const noexcept { return marked_.checkpoint; }
  // A commit, even of nothing, would make it known that a later start must find the last group, or free something.
  [[nodiscard]] bool wants_mark() const noexcept { return next_marks() != marked_; }
  [[nodiscard]] const std::string& failure() const noexcept { return failure_; }
  [[nodiscard]] const Stats& stats() const noexcept { return stats_; }

 private:
  // `reserve`: bytes that are left free behind it.
  [[nodiscard]] bool try_commit(const Group& group, std::int64_t now_ms, std::uint64_t reserve);
  [[nodiscard]] bool mark_helps() const noexcept;
  void commit_mark(std::uint64_t first, std::int64_t now_ms);
  [[nodiscard]] bool open_segment(std::uint64_t group_bytes);
  [[nodiscard]] bool write(const Group& group, std::int64_t now_ms, const Marks& marks, bool fresh);
  [[nodiscard]] bool sync(bool fresh);
  void abandon();
  void remove_applied();
  [[nodiscard]] bool fail(const std::string& what, const std::error_code& error);
  [[nodiscard]] Marks next_marks() const noexcept;
  void count_files() noexcept;

  Disk& disk_;
  const Options options_;
  const std::uint64_t log_id_;

  std::uint64_t next_segment_;
  std::uint64_t durable_;
  std::uint64_t checkpoint_;             // asked for
  Marks marked_;                         // of the last header that is durable
  std::vector<StoredSegment> segments_;  // ascending; the last is file_'s, if there is one
  std::uint64_t file_bytes_ = 0;         // the sum of theirs

  std::unique_ptr<DiskFile> file_;  // null: the next group begins a segment
  std::uint64_t used_ = 0;          // of file_: where the next group begins
  bool doubtful_ = false;           // what was written to it last
  std::string failure_;
  Stats stats_;
};

}  // namespace nearcached::tiers::write_behind
