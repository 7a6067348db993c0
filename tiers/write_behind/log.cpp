#include "tiers/write_behind/log.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace nearcached::tiers::write_behind {
namespace {

std::int64_t system_clock_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

LogOptions checked(LogOptions options) {
  constexpr std::size_t kRecordBytesMax = std::size_t{256} << 20;
  constexpr std::size_t kPendingBytesMax = std::size_t{1} << 30;  // a group's size is a 32-bit number, and one pwritev
  options.record_bytes_max = std::min(options.record_bytes_max, kRecordBytesMax);
  options.pending_bytes_max = std::min(options.pending_bytes_max, kPendingBytesMax);
  if (!options.wall_clock_ms) options.wall_clock_ms = system_clock_ms;
  return options;
}

bool supersedes(const Record& record) {
  return record.kind == RecordKind::kSuperseded || record.kind == RecordKind::kSupersededAll;
}

}  // namespace

Log::Log(Disk& disk, LogStart start, LogOptions options)
    : options_(checked(std::move(options))),
      writer_(disk, start, options_.writer),
      writing_(std::move(start.pending)),
      durable_(start.marks.durable),
      checkpoint_(start.marks.checkpoint),
      checkpointed_(start.marks.checkpoint),
      writing_records_(writing_.records),
      writing_bytes_(writing_.bytes.size()) {
  filling_.first = writing_.next();
  thread_ = std::thread([this] { run(); });
}

Log::~Log() { static_cast<void>(close()); }

Appended Log::append(const Record& record) {
  const bool fits = record_bytes(record) <= options_.record_bytes_max;
  const Appended appended = append_quietly(record, fits ? begin_checksum(record) : 0);
  if (appended.asleep) wake();
  return appended;
}

Appended Log::append_quietly(const Record& record, std::uint32_t begun) {
  const std::size_t bytes = record_bytes(record);
  const std::lock_guard lock(mutex_);
  const AppendStatus status = admit(record, bytes);
  if (status == AppendStatus::kFull) ++refused_full_;
  if (status == AppendStatus::kFailed) ++refused_failed_;
  if (status == AppendStatus::kTooLarge) ++refused_too_large_;
  if (status != AppendStatus::kTaken) return {0, status};
  const std::uint64_t sequence = filling_.append(record, begun);
  return {sequence, AppendStatus::kTaken, filling_.records == 1};
}

AppendStatus Log::admit(const Record& record, std::size_t bytes) const noexcept {
  if (bytes > options_.record_bytes_max) return AppendStatus::kTooLarge;
  if (closing_) return AppendStatus::kClosed;
  if (state_ == LogState::kFailed) return AppendStatus::kFailed;
  const std::uint64_t pending = filling_.bytes.size();
  if (pending > 0 && pending + bytes > options_.pending_bytes_max) return AppendStatus::kFull;
  const std::uint64_t reserve = supersedes(record) ? options_.writer.segment_bytes : 0;
  const std::uint64_t stored = writer_.stats().filled_bytes.value() + writing_bytes_ + pending;
  return stored + bytes > options_.bytes_max + reserve ? AppendStatus::kFull : AppendStatus::kTaken;
}

void Log::checkpoint(std::uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  if (sequence <= checkpoint_) return;
  checkpoint_ = sequence;
  wake_.notify_one();
}

LogStats Log::stats() const {
  LogStats stats;
  const LogWriter::Stats& writer = writer_.stats();
  stats.segments = writer.segments.value();
  stats.bytes = writer.bytes.value();
  stats.records = writer.records.value();
  stats.groups = writer.groups.value();
  stats.failures = writer.failures.value();
  stats.removals_failed = writer.removals_failed.value();
  for (std::size_t i = 0; i < stats.group_records.size(); ++i) stats.group_records[i] = writer.group_records[i].value();
  stats.sync_latency.add(writer.sync_latency);
  const std::lock_guard lock(mutex_);
  stats.state = state_;
  stats.durable = durable_sequence();
  stats.appended = filling_.next() - 1;
  stats.checkpoint = checkpointed_;
  stats.pending_records = writing_records_ + filling_.records;
  stats.pending_bytes = writing_bytes_ + filling_.bytes.size();
  stats.refused_full = refused_full_;
  stats.refused_failed = refused_failed_;
  stats.refused_too_large = refused_too_large_;
  return stats;
}

bool Log::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
  return drained_;
}

void Log::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const Work work = wait_for_work(lock);
    if (work == Work::kEnd) break;
    if (work == Work::kGroup && writing_.records == 0) {
      std::swap(filling_, writing_);
      filling_.clear();
      filling_.first = writing_.next();
    }
    const bool good = commit(lock);
    settle(lock, good);
    if (!good && closing_) break;
  }
  drained_ = writing_.records == 0 && filling_.records == 0 && !writer_.wants_mark();
}

// With the lock held. While the disk fails: the retry's time or the end. Otherwise: a record, the mark's time or the end.
Log::Work Log::wait_for_work(std::unique_lock<std::mutex>& lock) {
  using Clock = std::chrono::steady_clock;
  const auto entered = Clock::now();
  for (;;) {
    writer_.checkpoint(checkpoint_);
    const bool failed = state_ == LogState::kFailed;
    const bool group = writing_.records > 0 || filling_.records > 0;
    const bool mark = writer_.wants_mark();
    if (!failed && group) return Work::kGroup;
    if (closing_) return group ? Work::kGroup : mark ? Work::kMark : Work::kEnd;
    if (!failed && !mark) {
      wake_.wait(lock);
      continue;
    }
    const auto until = entered + std::chrono::milliseconds(failed ? options_.retry_ms : options_.idle_mark_ms);
    if (Clock::now() >= until) return group ? Work::kGroup : Work::kMark;
    wake_.wait_until(lock, until);
  }
}

bool Log::commit(std::unique_lock<std::mutex>& lock) {
  writing_records_ = writing_.records;
  writing_bytes_ = writing_.bytes.size();
  lock.unlock();
  const bool good = writer_.commit(writing_, options_.wall_clock_ms());
  lock.lock();
  return good;
}

// Tells what came of it.
void Log::settle(std::unique_lock<std::mutex>& lock, bool good) {
  const LogState before = std::exchange(state_, good ? LogState::kGood : LogState::kFailed);
  const bool records = good && writing_.records > 0;
  checkpointed_ = writer_.checkpointed();
  if (good) {
    writing_.clear();
    writing_records_ = 0;
    writing_bytes_ = 0;
    durable_.store(writer_.durable(), std::memory_order_release);
  }
  const std::uint64_t durable = writer_.durable();
  const LogState after = state_;
  lock.unlock();
  if (records && options_.on_durable) options_.on_durable(durable);
  if (before != after && options_.on_state) options_.on_state(after, good ? std::string() : writer_.failure());
  lock.lock();
}

}  // namespace nearcached::tiers::write_behind
