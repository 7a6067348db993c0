// Write-behind as a part of the process: its start, its end, what the log has to say.
#include <stdexcept>

#include "daemon/app.hpp"
#include "daemon/log.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::daemon {

using tiers::write_behind::LogState;
using tiers::write_behind::RecoveryReport;

std::unique_ptr<tiers::WriteBehind> make_write_behind(const config::Settings& settings) {
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
  options.on_too_old = [](const tiers::write_behind::RecoveredRecord& found) {
    log::error("write_behind_too_old", {{"key", found.record.key}, {"sequence", found.sequence}});
  };
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
  write_behind_->on_safe([this](std::uint64_t sequence) {
    for (const auto& worker : workers_) worker->tell_safe(sequence);
  });
  const RecoveryReport report = write_behind_->open(tiers::io::boot_us());
  if (!report.ok()) throw std::runtime_error("write_behind.log_dir: " + report.error);
  if (!write_behind_->has_log()) return;
  log::info("write_behind_log_read", {{"directory", settings_.write_behind.log_dir},
                                      {"records", report.records},
                                      {"superseded", report.superseded},
                                      {"torn_tail_bytes", report.tail_bytes},
                                      {"skipped_bytes", report.skipped_bytes}});
}

void App::on_dead_letter(const tiers::DeadLetter& letter) {
  log::error("write_behind_dead_letter",
             {{"database", letter.database}, {"key", letter.key}, {"sequence", letter.sequence}, {"error", letter.error}});
}

bool App::flush_write_behind() {
  write_behind_->tick();
  return write_behind_->queue().stats().records == 0;
}

void App::close_write_behind() {
  const std::size_t left = write_behind_->queue().stats().records;
  write_behind_->tick();
  const bool written = write_behind_->close();
  if (left == 0) return;
  log::warn("write_behind_left", {{"records", left}, {"kept_in_log", write_behind_->has_log() && written}});
}

}  // namespace nearcached::daemon
