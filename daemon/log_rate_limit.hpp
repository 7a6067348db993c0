// How many lines of one event a fault may write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

namespace nearcached::daemon::log {

// Allows `lines` per `window_ms` for each pair of event and key (the key names what the event is about: a node, an address),
// and says with the next allowed line how many were suppressed since the last one. A fixed window per pair, opened by its
// first line, instead of a token bucket: the burst at the start of a fault is what an operator wants to read, and "5 lines,
// then silence until 10 s are over" is easier to explain than a refill rate. Bad at: a fault that ends inside a window never
// tells its last count, unless the pair speaks again; suppressed_total() has it.
// Bounded: at most `pairs_max` pairs are known; windows long over make room, and while all are in use the newcomers share
// one window of their own, so that a flood of new keys is limited too.
// Pure: the caller brings `now_ms`, any clock that does not go back. Not synchronised; owned by one thread or under a lock.
class RateLimit {
 public:
  struct Options {
    std::uint32_t lines = 5;
    std::int64_t window_ms = 10'000;
    std::size_t pairs_max = 256;
  };
  struct Verdict {
    bool allowed = false;
    std::uint64_t suppressed = 0;  // lines of this pair held back since the last allowed one; 0 where not allowed
  };

  RateLimit() : RateLimit(Options{}) {}
  explicit RateLimit(const Options& options);

  [[nodiscard]] Verdict ask(std::string_view event, std::string_view key, std::int64_t now_ms);

  [[nodiscard]] std::uint64_t suppressed_total() const { return suppressed_total_; }
  [[nodiscard]] std::size_t pairs() const { return windows_.size(); }

 private:
  struct Window {
    std::int64_t opened_ms = 0;
    std::uint32_t lines = 0;  // 0: never used
    std::uint64_t suppressed = 0;
  };

  Verdict ask_window(Window& window, std::int64_t now_ms);
  Window& window_of(std::string_view event, std::string_view key, std::int64_t now_ms);
  void forget_closed(std::int64_t now_ms);

  const Options options_;
  std::unordered_map<std::string, Window> windows_;
  Window overflow_;
  std::uint64_t suppressed_total_ = 0;
};

}  // namespace nearcached::daemon::log
