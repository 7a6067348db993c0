// Write-behind as a part of the process: its start, its end, what the log has to say.
#include <algorithm>
#include <stdexcept>

#include "daemon/app.hpp"
#include "daemon/dead_letters.hpp"
#include "daemon/log.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::daemon {

using tiers::write_behind::LogState;
using tiers::write_behind::RecoveryReport;

namespace {

// As if it had been refused.
void bury(const DeadLetters& letters, const tiers::write_behind::RecoveredRecord& found) {
  using tiers::write_behind::Write;
  const bool set = found.record.kind == tiers::write_behind::RecordKind::kSet;
  const Write write{set ? Write::Kind::kSet : Write::Kind::kDelete, std::string(found.record.value),
                    found.record.expires_at_ms};
  const DeadLetter letter{found.record.database, found.record.key, &write, found.sequence,
                          "older than write_behind.max_replay_age"};
  if (!letters.add(letter)) throw std::runtime_error("write_behind.log_dir: dead letters can't be written down");
}

}  // namespace

std::unique_ptr<tiers::WriteBehind> make_write_behind(const config::Settings& settings, const DeadLetters& letters) {
  const config::WriteBehind& from = settings.write_behind;
  if (!from.enabled) return nullptr;
  tiers::WriteBehindOptions options;
  options.queue.batch_records = from.batch_records;
  options.queue.batch_interval_us = from.batch_interval.count() * 1000;
  options.queue.in_flight_max = from.in_flight;
  options.queue.records_max = from.max_records;
  options.queue.bytes_max = from.max_bytes;
  options.queue.max_age_us = from.max_age.count() * 1000;
  options.log_dir = from.log_dir;
  options.log.writer.segment_bytes = from.segment_bytes;
  options.log.bytes_max = from.log_max_bytes;
  options.skip_damaged = from.skip_damaged;
  options.max_replay_age_ms = from.max_replay_age.count();
  options.on_too_old = [&letters](const tiers::write_behind::RecoveredRecord& found) { bury(letters, found); };
  options.log.on_state = [](LogState state, const std::string& text) {
    if (state == LogState::kFailed) {
      log::error("write_behind_log_failed", {{"reason", text}, {"meaning", "writes go through to the upstream"}});
    } else {
      log::info("write_behind_log_good", {});
    }
  };
  return std::make_unique<tiers::WriteBehind>(std::move(options));
}

void App::open_write_behind() {
  write_behind_->on_safe([this] {
    for (const auto& worker : workers_) worker->tell_safe();
  });
  write_behind_->queue().on_urgent([this](std::uint16_t node) { workers_[node % workers_.size()]->flush_soon(); });
  const RecoveryReport report = write_behind_->open(tiers::io::boot_us());
  if (!report.ok()) throw std::runtime_error("write_behind.log_dir: " + report.error);
  if (!write_behind_->has_log()) return;
  replayed_ = report.records;
  log::info("write_behind_log_read", {{"directory", settings_.write_behind.log_dir},
                                      {"records", report.records},
                                      {"superseded", report.superseded},
                                      {"torn_tail_bytes", report.tail_bytes},
                                      {"skipped_bytes", report.skipped_bytes}});
}

WriteBehindRow App::write_behind_row() const {
  WriteBehindRow row;
  row.queue = write_behind_->queue().stats();
  row.log = write_behind_->log_stats();
  row.replayed = replayed_;
  if (row.queue.oldest_us != 0) {
    row.oldest_age_ms = std::max<std::int64_t>(0, (tiers::io::boot_us() - row.queue.oldest_us) / 1000);
  }
  row.mode = !write_behind_->has_log() ? "memory" : row.log.state == LogState::kFailed ? "through" : "log";
  return row;
}

bool App::flush_write_behind() {
  write_behind_->tick();
  return write_behind_->queue().stats().records == 0;
}

std::size_t App::press_write_behind() {
  if (write_behind_ == nullptr) return 0;
  write_behind_->queue().press();
  return write_behind_->queue().stats().records;
}

void App::close_write_behind() {
  const std::size_t left = write_behind_->queue().stats().records;
  write_behind_->tick();
  const bool written = write_behind_->close();
  if (left == 0) return;
  log::warn("write_behind_left", {{"records", left}, {"kept_in_log", write_behind_->has_log() && written}});
}

}  // namespace nearcached::daemon
