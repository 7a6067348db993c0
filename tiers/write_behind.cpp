#include "tiers/write_behind.hpp"

#include <chrono>
#include <limits>
#include <utility>

namespace nearcached::tiers {

using namespace write_behind;

namespace {

constexpr std::uint64_t kAll = std::numeric_limits<std::uint64_t>::max();

std::int64_t wall_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

Record record_of(QueueKey key, const Write& write) {
  const bool set = write.kind == Write::Kind::kSet;
  return {set ? RecordKind::kSet : RecordKind::kDelete, key.database, write.expires_at_ms, key.key, write.value};
}

}  // namespace

WriteBehind::WriteBehind(WriteBehindOptions options) : options_(std::move(options)), queue_(options_.queue) {}

RecoveryReport WriteBehind::open(std::int64_t now_us) {
  if (options_.log_dir.empty()) return {};
  std::string error;
  disk_ = PosixDisk::open(options_.log_dir, error);
  RecoveryReport report;
  if (disk_ == nullptr) {
    report.status = RecoveryStatus::kDisk;
    report.error = error;
    return report;
  }
  report = recover(*disk_, {options_.skip_damaged, 0}, [&](const RecoveredRecord& found) {
    const Record& record = found.record;
    if (options_.max_replay_age_ms != 0 && wall_ms() - found.written_at_ms > options_.max_replay_age_ms) {
      options_.on_too_old(found);
      return;
    }
    const bool set = record.kind == RecordKind::kSet;
    auto write = std::make_shared<const Write>(
        Write{set ? Write::Kind::kSet : Write::Kind::kDelete, std::string(record.value), record.expires_at_ms});
    queue_.restore({record.database, record.key}, std::move(write), found.sequence, now_us);
  });
  if (!report.ok()) return report;
  LogOptions log = options_.log;
  log.on_durable = [this](std::uint64_t) { tell(); };
  log.on_state = [this, say = options_.log.on_state](LogState state, const std::string& text) {
    disk_failed_.store(state == LogState::kFailed);
    if (state == LogState::kFailed) queue_.press();  // what waits for the disk waits for the upstream now
    if (say) say(state, text);
    tell();
  };
  log_ = std::make_unique<Log>(*disk_, report.start, log);
  return report;
}

bool WriteBehind::close() { return log_ == nullptr || log_->close(); }

WriteQueue::PutResult WriteBehind::put(WriteQueue::NewWrite write, std::int64_t now_us) {
  if (log_ == nullptr) return queue_.put(std::move(write), now_us, [&](QueueKey) { return unlogged_.fetch_add(1) + 1; });
  const WritePtr what = write.write;
  const Record record = record_of(write.key, *what);
  const std::uint32_t begun = begin_checksum(record);
  Appended appended;
  auto result = queue_.put(std::move(write), now_us, [&](QueueKey) {
    appended = log_->append_quietly(record, begun);
    return appended.sequence;
  });
  if (appended.asleep) log_->wake();
  if (appended.status == AppendStatus::kFull) {
    queue_.press();
    result.put = WriteQueue::Put::kFull;
  }
  return result;
}

std::uint64_t WriteBehind::flushable_sequence() const {
  return log_ == nullptr || disk_failed_.load() ? kAll : log_->durable_sequence();
}

std::optional<std::uint64_t> WriteBehind::supersede(QueueKey key) {
  if (log_ == nullptr) return 0;
  return queue_.supersede(key, [&](QueueKey named) {
    return log_->append({RecordKind::kSuperseded, named.database, 0, named.key, {}}).sequence;
  });
}

std::optional<std::uint64_t> WriteBehind::supersede_all() {
  if (log_ == nullptr) return 0;
  return queue_.supersede_all([&](QueueKey named) {
    return log_->append({RecordKind::kSuperseded, named.database, 0, named.key, {}}).sequence;
  });
}

Safety WriteBehind::safety(SafePoint point) const {
  if (log_ == nullptr || point.sequence <= log_->durable_sequence()) return Safety::kSafe;
  if (!point.in_log_only) return point.sequence <= flushed_.load() ? Safety::kSafe : Safety::kNotYet;
  return disk_failed_.load() ? Safety::kNever : Safety::kNotYet;
}

void WriteBehind::tick() {
  // In this order: whatever the log has handed out by now is known to the queue when it is asked.
  const std::uint64_t last = log_ ? log_->stats().appended : unlogged_.load();
  const std::uint64_t applied = queue_.checkpoint(last);
  if (log_ == nullptr) {
    queue_.checkpointed(applied);
    return;
  }
  log_->checkpoint(applied);
  queue_.checkpointed(log_->stats().checkpoint);
  flushed_.store(applied);
  if (disk_failed_.load()) tell();
}

}  // namespace nearcached::tiers
