// The durable log of write-behind: records from many threads, made durable in groups by one.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "tiers/insight/totals.hpp"
#include "tiers/write_behind/disk.hpp"
#include "tiers/write_behind/log_writer.hpp"
#include "tiers/write_behind/record.hpp"
#include "tiers/write_behind/recovery.hpp"

namespace nearcached::tiers::write_behind {

enum class LogState : std::uint8_t {
  kGood,
  kFailed,  // the disk refuses: nothing new is taken, what was taken is tried again every retry_ms
};

enum class AppendStatus : std::uint8_t {
  kTaken,
  kFull,      // bytes_max or pending_bytes_max: again when a checkpoint has freed something, or a group is written
  kFailed,    // LogState::kFailed
  kTooLarge,  // record_bytes_max: never
  kClosed,
};

struct Appended {
  std::uint64_t sequence = 0;  // 0 unless kTaken
  AppendStatus status = AppendStatus::kTaken;
  bool asleep = false;  // nobody has told the log's thread that there is something to do: wake() does
};

struct LogOptions {
  LogWriter::Options writer;
  std::size_t record_bytes_max = std::size_t{16} << 20;   // of one record with its head; up to 256 MiB
  std::size_t pending_bytes_max = std::size_t{64} << 20;  // waiting for the disk; up to 1 GiB; one record fits always
  // Of all segments' files. Where it is reached nothing is taken but what supersedes (a write past the log must not wait for
  // the log to be drained), which may fill one more segment; a segment begun below the limit may be preallocated above it.
  std::uint64_t bytes_max = std::uint64_t{1} << 30;
  std::int64_t idle_mark_ms = 100;              // a group that none has followed for so long is followed by an empty one
  std::int64_t retry_ms = 1000;                 // between attempts while the disk fails
  std::function<std::int64_t()> wall_clock_ms;  // unix time; empty: the system's

  // Called by the log's thread, without a lock; must not throw, nor wait for it. Either may be empty.
  std::function<void(std::uint64_t)> on_durable;                    // everything up to the sequence is durable
  std::function<void(LogState, const std::string& text)> on_state;  // the text says what failed, empty when it is good again
};

struct LogStats {
  LogState state = LogState::kGood;
  std::uint64_t appended = 0;  // the highest sequence given out
  std::uint64_t durable = 0;
  std::uint64_t checkpoint = 0;  // the durable one
  std::uint64_t segments = 0, bytes = 0;
  std::uint64_t pending_records = 0, pending_bytes = 0;                       // not durable yet
  std::uint64_t records = 0, groups = 0, failures = 0, removals_failed = 0;   // since the start
  std::uint64_t refused_full = 0, refused_failed = 0, refused_too_large = 0;  // appends
  std::array<std::uint64_t, LogWriter::kGroupSizes> group_records{};          // as LogWriter::Stats
  insight::HistogramTotals sync_latency;
};

// Group commit: append() encodes into a buffer that all threads share; the log's thread takes the buffer, writes it as one
// group, syncs, and tells. While it syncs, the next group fills, so that the group's size follows the load: one client gets
// a sync per write, five hundred share one. No timer gathers more: a delay would cost the lone client what it saved nobody.
//
//     append() --+                                    +-----------> on_durable(sequence)
//     append() --+--> filling_ --swap--> writing_ ----+ write, sync
//     append() --+                          ^         |
//                                           +---------+ failed: kept, again every retry_ms, appends are refused
//
// A group says up to where the log was durable when it was written, and so nothing of itself. When no group follows one for
// idle_mark_ms, an empty one does: then rot of the last records too is told from a torn tail. A checkpoint travels with the
// next group, or in such an empty one.
//
// What it is bad at: large values. They are copied twice (into the buffer, into the page cache), the first time under the
// lock.
// Threading: everything from any thread; close() and the destructor from one.
class Log {
 public:
  // Starts the thread. start.pending is written first. `disk` outlives it, and is the log's alone.
  Log(Disk& disk, LogStart start, LogOptions options);
  // close(), if that was not called.
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // The record is durable once durable_sequence() has reached its sequence. Sequences are dense and in the order of the
  // appends. What has a sequence is never dropped while the process lives: it becomes durable, or waits for the disk.
  [[nodiscard]] Appended append(const Record& record);
  // The same for who holds a lock of his own, in two steps: wake() is called without it, if Appended::asleep says so.
  // `begun`: of begin_checksum(record), made before.
  [[nodiscard]] Appended append_quietly(const Record& record, std::uint32_t begun);
  void wake() { wake_.notify_one(); }
  [[nodiscard]] std::uint64_t durable_sequence() const noexcept { return durable_.load(std::memory_order_acquire); }
  // Every record up to the sequence has been applied upstream, or is not to be. Takes effect once it is durable.
  void checkpoint(std::uint64_t sequence);
  [[nodiscard]] LogStats stats() const;
  // Writes what is pending and marks it, and ends the thread. False: the disk failed, and stats().pending_records were not
  // made durable. Later calls say the same.
  [[nodiscard]] bool close();

 private:
  enum class Work : std::uint8_t { kGroup, kMark, kEnd };

  void run();
  [[nodiscard]] Work wait_for_work(std::unique_lock<std::mutex>& lock);
  // Both release the lock meanwhile.
  [[nodiscard]] bool commit(std::unique_lock<std::mutex>& lock);
  void settle(std::unique_lock<std::mutex>& lock, bool good);
  [[nodiscard]] AppendStatus admit(const Record& record, std::size_t bytes) const noexcept;

  const LogOptions options_;

  // The thread's alone; writing_'s size is guarded, for stats().
  LogWriter writer_;
  Group writing_;

  std::atomic<std::uint64_t> durable_;

  mutable std::mutex mutex_;  // of all below
  std::condition_variable wake_;
  Group filling_;
  LogState state_ = LogState::kGood;
  bool closing_ = false;
  bool drained_ = false;  // at the end
  std::uint64_t checkpoint_ = 0;
  std::uint64_t checkpointed_;
  std::uint64_t writing_records_ = 0, writing_bytes_ = 0;
  std::uint64_t refused_full_ = 0, refused_failed_ = 0, refused_too_large_ = 0;

  std::thread thread_;  // the last member: it begins when the others are there
};

}  // namespace nearcached::tiers::write_behind
