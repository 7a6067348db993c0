// The log: one line per event that matters, to stderr, as key=value or JSON.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "config/settings.hpp"

namespace nearcached::daemon::log {

enum class Level : std::uint8_t { kDebug, kInfo, kWarn, kError };
enum class Format : std::uint8_t { kText, kJson };

[[nodiscard]] constexpr Level level_of(config::LogLevel level) {
  switch (level) {
    case config::LogLevel::kDebug: return Level::kDebug;
    case config::LogLevel::kInfo: return Level::kInfo;
    case config::LogLevel::kWarn: return Level::kWarn;
    case config::LogLevel::kError: return Level::kError;
  }
  return Level::kInfo;
}

[[nodiscard]] constexpr Format format_of(config::LogFormat format) {
  return format == config::LogFormat::kJson ? Format::kJson : Format::kText;
}

// One key=value of a line. Views only: valid during the call it is passed to. Names are ours (snake_case, never someone
// else's text); values may be anything and are escaped, and cut to kValueBytesMax.
struct Field {
  using Value = std::variant<std::string_view, std::int64_t, std::uint64_t, bool>;

  Field(std::string_view field_name, std::string_view text) : name(field_name), value(text) {}
  Field(std::string_view field_name, const char* text) : name(field_name), value(std::string_view(text)) {}
  Field(std::string_view field_name, const std::string& text) : name(field_name), value(std::string_view(text)) {}
  Field(std::string_view field_name, bool flag) : name(field_name), value(flag) {}
  Field(std::string_view field_name, std::signed_integral auto n) : name(field_name), value(std::int64_t{n}) {}
  Field(std::string_view field_name, std::unsigned_integral auto n) : name(field_name), value(std::uint64_t{n}) {}

  std::string_view name;
  Value value;
};
using Fields = std::initializer_list<Field>;

inline constexpr std::size_t kValueBytesMax = 1024;  // a key may have 512 MB; a line should fit a log shipper's limit
inline constexpr std::size_t kQueueLinesMax = 1024;  // about 400 KB; a start or a failover writes some dozens

// Asynchronous: the caller formats its line and leaves it in a bounded queue; one thread writes. A worker that logs never
// waits for stderr, which stands still whenever a terminal is paused or the container runtime's pipe is full, and all
// clients of that worker with it. The price: when the queue is full its oldest lines are lost, and the last lines of a
// crash may be. The writer gives a stuck stderr one second, then drops what it can't write at once until it flows again;
// so shutdown() is bounded too. Lost lines are counted by dropped_lines().
//
// init() and shutdown() are called by main while no other thread logs. All else may be called from any thread. Before
// init() and after shutdown() lines of any level but debug are written directly, as text.
void init(Level level, Format format);
void init(Level level, Format format, int fd);  // for tests: another descriptor than stderr, not closed
void shutdown();                                // writes what is queued, ends the thread

// `event` is a short name, snake_case, of ours: "ready", "upstream_lost".
void write(Level level, std::string_view event, Fields fields = {});
inline void debug(std::string_view event, Fields fields = {}) { write(Level::kDebug, event, fields); }
inline void info(std::string_view event, Fields fields = {}) { write(Level::kInfo, event, fields); }
inline void warn(std::string_view event, Fields fields = {}) { write(Level::kWarn, event, fields); }
inline void error(std::string_view event, Fields fields = {}) { write(Level::kError, event, fields); }

// For events that a fault can repeat without end: at most 5 lines per 10 s for each event and key (a node, say; RateLimit
// has the rules). `suppressed=N` is added where lines were held back before this one. Takes a lock: not for the data path's
// good case.
void write_limited(Level level, std::string_view event, std::string_view key, Fields fields = {});

[[nodiscard]] bool enabled(Level level);
[[nodiscard]] std::uint64_t dropped_lines();

// The line itself, newline included: what write() queues. `unix_ms` is UTC, 1970 to 9999.
[[nodiscard]] std::string format_line(Format format, Level level, std::int64_t unix_ms, std::string_view event,
                                      Fields fields, std::uint64_t suppressed = 0);

}  // namespace nearcached::daemon::log
