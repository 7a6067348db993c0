// Write-behind as the sessions see it: the queue, the log, and when a write is safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "tiers/write_behind/log.hpp"
#include "tiers/write_behind/posix_disk.hpp"
#include "tiers/write_behind/write_queue.hpp"

namespace nearcached::tiers {

struct WriteBehindOptions {
  write_behind::QueueOptions queue;
  std::string log_dir;  // empty: no log, and nothing can be deferred, only eventual
  write_behind::LogOptions log;
  bool skip_damaged = false;
  std::int64_t max_replay_age_ms = 0;  // an older record is not replayed; 0: none is too old
  // A record that is not replayed because of its age.
  std::function<void(const write_behind::RecoveredRecord&)> on_too_old;
};

// What an answer waits for.
struct SafePoint {
  std::uint64_t sequence = 0;  // of a record; 0: nothing
  // Only the log makes it safe: a restart would replay an older record of the key over what the upstream has by then. Of
  // records that supersede, and of writes of keys with older records (WriteQueue::PutResult::older_logged).
  bool in_log_only = false;
};
enum class Safety : std::uint8_t {
  kNotYet,
  kSafe,
  kNever,  // as long as the disk fails
};

// A write is safe once it is durable in the log, or upstream and alone in the log: then a client whose policy is `deferred`
// is told. With a log all that is put goes into it, eventual writes as well: an older deferred record of the key must not
// come back over one.
//
// While the disk fails nothing more is accepted (`put` says kRefused: it goes through), and what waits for the disk leaves
// for the upstream, which makes most of it safe as well.
//
// Threading: all functions from any thread, but for open() and close(), before the first and after the last other one.
class WriteBehind {
 public:
  explicit WriteBehind(WriteBehindOptions options);

  // Reads the log and puts into the queue what the last process had not flushed. Without a log it does nothing.
  [[nodiscard]] write_behind::RecoveryReport open(std::int64_t now_us);
  // True: nothing waits for the disk any more. What waits to be flushed stays in the log.
  [[nodiscard]] bool close();

  [[nodiscard]] write_behind::WriteQueue& queue() { return queue_; }
  [[nodiscard]] bool has_log() const { return log_ != nullptr; }

  // kFull: by the queue's limits or the log's, and what waits leaves at once. kRefused: the log does not take it.
  [[nodiscard]] write_behind::WriteQueue::PutResult put(write_behind::WriteQueue::NewWrite write, std::int64_t now_us);
  [[nodiscard]] Safety safety(SafePoint point) const;
  [[nodiscard]] bool disk_failed() const { return disk_failed_.load(); }
  // What the flusher may send.
  [[nodiscard]] std::uint64_t flushable_sequence() const;
  // Before a direct write of the key, or of keys that nobody knows: the sequence that must be safe first, 0 if none.
  // Nothing: the log can't be written.
  [[nodiscard]] std::optional<std::uint64_t> supersede(write_behind::QueueKey key);
  [[nodiscard]] std::optional<std::uint64_t> supersede_all();

  // Called, from any thread, when safety() may say something else than kNotYet of a point. While the disk is good points
  // become safe in the order of their sequences.
  void on_safe(std::function<void()> tell) { tell_ = std::move(tell); }
  // A few times a second, from one thread: checkpoints.
  void tick();

  [[nodiscard]] write_behind::LogStats log_stats() const { return log_ ? log_->stats() : write_behind::LogStats(); }

 private:
  void tell() const {
    if (tell_) tell_();
  }

  const WriteBehindOptions options_;
  write_behind::WriteQueue queue_;
  std::function<void()> tell_;
  std::atomic<std::uint64_t> flushed_{0};   // all up to here is upstream
  std::atomic<std::uint64_t> unlogged_{0};  // without a log: the last sequence
  std::atomic<bool> disk_failed_{false};
  std::unique_ptr<write_behind::PosixDisk> disk_;
  std::unique_ptr<write_behind::Log> log_;
};

}  // namespace nearcached::tiers
