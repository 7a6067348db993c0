// MONITOR: what all clients of the process ask for, told to those who want to see it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace nearcached::daemon {

// Appends "+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n". `name` is the command's in the table; secrets are
// redacted. An argument is shown up to kMonitoredBytes, then how many bytes more it has: one SET of 100 MB would else cost
// each monitor up to 400 MB.
inline constexpr std::size_t kMonitoredBytes = 16 * 1024;
void append_monitor_line(std::string& out, std::int64_t unix_us, std::uint32_t database, std::string_view address,
                         std::string_view name, std::span<const std::string_view> args);

// Of the process. The lines of a worker's turn go to every worker in one message, and there to its monitors. Nobody pays for
// it while nobody monitors but for one relaxed load per command. Bad at order: lines of different workers come turn by turn;
// their times tell.
//
// Bounds: what is on its way between workers holds at most kBytesMax, above which lines are dropped and counted; what a
// monitor does not read counts against limits.output_bytes like any reply. Synchronised inside.
class MonitorFeed {
 public:
  static constexpr std::size_t kBytesMax = std::size_t{32} << 20;
  using Lines = std::shared_ptr<const std::string>;

  [[nodiscard]] bool watched() const { return monitors_.load(std::memory_order_relaxed) != 0; }
  void join() { monitors_.fetch_add(1, std::memory_order_relaxed); }
  void leave() { monitors_.fetch_sub(1, std::memory_order_relaxed); }

  // The lines as they travel, which count until the last copy is gone; nullptr: dropped, there are too many under way.
  [[nodiscard]] Lines admit(std::string lines);
  [[nodiscard]] std::uint64_t dropped_bytes() const { return dropped_bytes_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint32_t> monitors_{0};
  std::atomic<std::size_t> bytes_{0};
  std::atomic<std::uint64_t> dropped_bytes_{0};
};

}  // namespace nearcached::daemon
