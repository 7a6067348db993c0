// SLOWLOG: what took long, of all clients.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::daemon {

struct SlowCommand {
  std::uint64_t id = 0;
  std::int64_t time_s = 0;  // Unix time
  std::int64_t duration_us = 0;
  std::vector<std::string> args;  // shortened, without secrets
  std::string address;
  std::string name;
};

// The newest `length_max` commands that were answered late: from their being read from the client until the whole reply was
// here. One log of the process behind a mutex: only what is slow already takes it. Ids go on after a reset, as in Redis.
class SlowLog {
 public:
  explicit SlowLog(std::size_t length_max) : length_max_(length_max) {}

  void add(SlowCommand command);  // its id is given here
  // The newest first, at most `count`.
  [[nodiscard]] std::vector<SlowCommand> newest(std::size_t count) const;
  [[nodiscard]] std::size_t length() const;
  void reset();

 private:
  const std::size_t length_max_;
  mutable std::mutex mutex_;
  std::deque<SlowCommand> commands_;  // guarded by mutex_, the newest in front
  std::uint64_t next_id_ = 0;         // guarded by mutex_
};

// SLOWLOG GET's reply: arrays of six, as since Redis 4.0.
[[nodiscard]] std::string slow_log_reply(const std::vector<SlowCommand>& commands);

// How many SLOWLOG GET with these arguments asks for; 10 without. False: not a count that Redis takes.
[[nodiscard]] bool parse_slow_log_count(std::string_view text, std::size_t& count);

}  // namespace nearcached::daemon
