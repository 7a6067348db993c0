// CLIENT PAUSE: for how long clients' commands are not carried out.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

namespace nearcached::daemon {

// Of the process. Sessions ask before each command, which costs a relaxed load while nothing is paused; one that is held
// asks again at each tick. What has left already is answered. A second pause makes the first one longer or wider, never
// shorter or narrower, as in Redis. Two pauses at once from two threads may leave the later end with the wider kind, which
// both asked for in part. Synchronised inside.
class ClientPause {
 public:
  enum class Kind : std::uint8_t { kWrites, kAll };

  void begin(Kind kind, std::int64_t until_us, std::int64_t now_us);
  void end() { until_us_.store(0, std::memory_order_relaxed); }

  // A command that `writes` in the sense of CLIENT PAUSE WRITE must wait.
  [[nodiscard]] bool holds(bool writes, std::int64_t now_us) const {
    const std::int64_t until_us = until_us_.load(std::memory_order_relaxed);
    if (until_us == 0 || now_us >= until_us) return false;
    return writes || all_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] bool begun() const { return until_us_.load(std::memory_order_relaxed) != 0; }

 private:
  std::atomic<std::int64_t> until_us_{0};
  std::atomic<bool> all_{false};
};

struct PauseRequest {
  ClientPause::Kind kind = ClientPause::Kind::kAll;
  std::int64_t timeout_ms = 0;
};

// CLIENT PAUSE timeout [WRITE|ALL]. Returns the error in Redis's words, empty: none.
[[nodiscard]] std::string parse_client_pause(std::span<const std::string_view> args, PauseRequest& request);

}  // namespace nearcached::daemon
