#include "daemon/log_rate_limit.hpp"

#include <utility>

namespace nearcached::daemon::log {

RateLimit::RateLimit(const Options& options) : options_(options) { windows_.reserve(options.pairs_max); }

RateLimit::Verdict RateLimit::ask(std::string_view event, std::string_view key, std::int64_t now_ms) {
  return ask_window(window_of(event, key, now_ms), now_ms);
}

RateLimit::Verdict RateLimit::ask_window(Window& window, std::int64_t now_ms) {
  if (window.lines == 0 || now_ms - window.opened_ms >= options_.window_ms) {
    window.opened_ms = now_ms;
    window.lines = 0;
  }
  if (window.lines >= options_.lines) {
    ++window.suppressed;
    ++suppressed_total_;
    return {};
  }
  ++window.lines;
  return {true, std::exchange(window.suppressed, 0)};
}

RateLimit::Window& RateLimit::window_of(std::string_view event, std::string_view key, std::int64_t now_ms) {
  std::string pair;
  pair.reserve(event.size() + 1 + key.size());
  pair.append(event).append(1, '\0').append(key);
  if (const auto found = windows_.find(pair); found != windows_.end()) return found->second;
  if (windows_.size() >= options_.pairs_max) forget_closed(now_ms);
  if (windows_.size() >= options_.pairs_max) return overflow_;
  return windows_[std::move(pair)];
}

// A closed window that still owes a count is kept for a second one, so that the count can be told.
void RateLimit::forget_closed(std::int64_t now_ms) {
  std::erase_if(windows_, [&](const auto& item) {
    const Window& window = item.second;
    const std::int64_t kept_ms = window.suppressed == 0 ? options_.window_ms : 2 * options_.window_ms;
    return now_ms - window.opened_ms >= kept_ms;
  });
}

}  // namespace nearcached::daemon::log
