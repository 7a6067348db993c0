// Write-behind as a part of the process: its start, its end, what the log has to say.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "daemon/app.hpp"
#include "daemon/log.hpp"
#include "daemon/text_escape.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::daemon {

using tiers::write_behind::LogState;
using tiers::write_behind::RecoveryReport;

namespace {

std::int64_t wall_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

std::string hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    text += kDigits[static_cast<unsigned char>(c) >> 4];
    text += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

// Empty, or what went wrong.
std::string append_durably(const std::string& path, std::string_view text) {
  const int file = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return std::strerror(errno);
  const bool done = write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && fdatasync(file) == 0;
  const std::string problem = done ? "" : std::strerror(errno);
  close(file);
  return problem;
}

}  // namespace

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
  replayed_ = report.records;
  log::info("write_behind_log_read", {{"directory", settings_.write_behind.log_dir},
                                      {"records", report.records},
                                      {"superseded", report.superseded},
                                      {"torn_tail_bytes", report.tail_bytes},
                                      {"skipped_bytes", report.skipped_bytes}});
}

// Written down before it is given up: one line of JSON each, in the log's directory. Key and value in hexadecimal, since
// they are bytes.
void App::on_dead_letter(const tiers::DeadLetter& letter) {
  const tiers::write_behind::Write& write = *letter.write;
  const bool gone = write.kind == tiers::write_behind::Write::Kind::kDelete;
  if (!settings_.write_behind.log_dir.empty()) {
    std::string line =
        "{\"time_ms\": " + std::to_string(wall_ms()) + ", \"database\": " + std::to_string(letter.database) + ", \"key\": ";
    append_json_string(line, letter.key);
    line += ", \"key_hex\": \"" + hex(letter.key) + "\", \"kind\": \"" + (gone ? "delete" : "set") +
            "\", \"value_hex\": \"" + hex(write.value) + "\", \"expires_at_ms\": " + std::to_string(write.expires_at_ms) +
            ", \"sequence\": " + std::to_string(letter.sequence) + ", \"error\": ";
    append_json_string(line, letter.error);
    const std::string path = settings_.write_behind.log_dir + "/dead-letters.log";
    const std::string problem = append_durably(path, line + "}\n");
    if (!problem.empty()) log::error("write_behind_dead_letter_lost", {{"file", path}, {"reason", problem}});
  }
  log::error("write_behind_dead_letter",
             {{"database", letter.database}, {"key", letter.key}, {"sequence", letter.sequence}, {"error", letter.error}});
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

void App::close_write_behind() {
  const std::size_t left = write_behind_->queue().stats().records;
  write_behind_->tick();
  const bool written = write_behind_->close();
  if (left == 0) return;
  log::warn("write_behind_left", {{"records", left}, {"kept_in_log", write_behind_->has_log() && written}});
}

}  // namespace nearcached::daemon
