#include "daemon/log.hpp"

#include <poll.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <ctime>
#include <memory>
#include <mutex>
#include <utility>

#include "daemon/log_rate_limit.hpp"
#include "daemon/text_escape.hpp"

namespace nearcached::daemon::log {
namespace {

constexpr std::array<std::string_view, 4> kLevelNames = {"debug", "info", "warn", "error"};
constexpr int kPatienceMs = 1000;  // for a stuck stderr, once; then nothing until it flows again

std::string_view name_of(Level level) { return kLevelNames[static_cast<std::size_t>(level)]; }

// Writes a line to a descriptor that may be stuck. Pieces of at most PIPE_BUF behind a poll: a pipe that polls writable
// takes that much without blocking.
class BoundedWriter {
 public:
  explicit BoundedWriter(int fd) : fd_(fd) {}

  // False: the line, or the rest of it, is lost.
  bool write(std::string_view line) {
    if (torn_) {
      if (!write_all("\n")) return false;
      torn_ = false;
    }
    return write_all(line);
  }

 private:
  bool write_all(std::string_view rest) {
    const std::size_t size = rest.size();
    while (!rest.empty()) {
      if (!wait_writable()) break;
      const ssize_t n = ::write(fd_, rest.data(), std::min<std::size_t>(rest.size(), PIPE_BUF));
      if (n > 0) {
        rest.remove_prefix(static_cast<std::size_t>(n));
      } else if (n < 0 && errno != EINTR && errno != EAGAIN) {
        break;
      }
    }
    if (!rest.empty() && rest.size() < size) torn_ = true;
    return rest.empty();
  }

  bool wait_writable() {
    pollfd waited{fd_, POLLOUT, 0};
    int ready = -1;
    do {
      ready = ::poll(&waited, 1, stuck_ ? 0 : kPatienceMs);
    } while (ready < 0 && errno == EINTR);
    stuck_ = ready <= 0;
    return !stuck_;
  }

  const int fd_;
  bool stuck_ = false;
  bool torn_ = false;  // the last line ended in its middle
};

// spdlog's part is the queue and the thread; lines arrive formatted.
class LineSink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  LineSink(int fd, std::atomic<std::uint64_t>& lost) : writer_(fd), lost_(lost) {}

 private:
  void sink_it_(const spdlog::details::log_msg& line) override {
    if (!writer_.write({line.payload.data(), line.payload.size()})) lost_.fetch_add(1, std::memory_order_relaxed);
  }
  void flush_() override {}

  BoundedWriter writer_;
  std::atomic<std::uint64_t>& lost_;
};

std::atomic<std::uint64_t> g_lost{0};  // not written, or overrun in a queue that is no more
std::atomic<Level> g_level{Level::kInfo};
std::atomic<Format> g_format{Format::kText};

struct Backend {
  explicit Backend(int fd) : pool(std::make_shared<spdlog::details::thread_pool>(kQueueLinesMax, 1)) {
    logger = std::make_shared<spdlog::async_logger>("nearcached", std::make_shared<LineSink>(fd, g_lost), pool,
                                                    spdlog::async_overflow_policy::overrun_oldest);
    logger->set_level(spdlog::level::trace);
    logger->set_error_handler([](const std::string&) { g_lost.fetch_add(1, std::memory_order_relaxed); });
  }
  // In this order: the pool goes first. Its end writes what is queued and joins the thread, which uses the logger's sink.
  std::shared_ptr<spdlog::async_logger> logger;
  std::shared_ptr<spdlog::details::thread_pool> pool;
};

std::unique_ptr<Backend> g_backend;  // changed by init() and shutdown() only

struct SharedLimit {
  std::mutex mutex;
  RateLimit limit;
};

SharedLimit& shared_limit() {
  static SharedLimit shared;
  return shared;
}

void append_timestamp(std::string& out, std::int64_t unix_ms) {
  const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  std::array<char, 40> text{};
  const std::size_t n = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &utc);
  out.append(text.data(), n);
  std::snprintf(text.data(), text.size(), ".%03dZ", static_cast<int>(unix_ms % 1000));
  out += text.data();
}

// Numbers and booleans look the same in both formats; `append_text` writes a string.
template <typename AppendText>
void append_value(std::string& out, const Field::Value& value, AppendText append_text) {
  if (const auto* text = std::get_if<std::string_view>(&value)) {
    if (text->size() <= kValueBytesMax) {
      append_text(out, *text);
    } else {
      append_text(out, std::string(text->substr(0, kValueBytesMax)) + "...");
    }
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    out += *flag ? "true" : "false";
  } else if (const auto* n = std::get_if<std::int64_t>(&value)) {
    out += std::to_string(*n);
  } else {
    out += std::to_string(std::get<std::uint64_t>(value));
  }
}

void append_text_field(std::string& out, const Field& field) {
  out += ' ';
  out += field.name;
  out += '=';
  append_value(out, field.value, append_log_value);
}

void append_json_field(std::string& out, const Field& field) {
  out += ',';
  append_json_string(out, field.name);
  out += ':';
  append_value(out, field.value, append_json_string);
}

std::int64_t unix_now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::int64_t steady_now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void submit(const std::string& line) {
  if (!g_backend) {
    if (!BoundedWriter(STDERR_FILENO).write(line)) g_lost.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  g_backend->logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace

void init(Level level, Format format) { init(level, format, STDERR_FILENO); }

void init(Level level, Format format, int fd) {
  shutdown();
  g_level = level;
  g_format = format;
  g_backend = std::make_unique<Backend>(fd);
}

void shutdown() {
  if (g_backend) {
    const std::size_t overrun = g_backend->pool->overrun_counter();
    g_backend.reset();
    g_lost.fetch_add(overrun, std::memory_order_relaxed);
  }
  g_level = Level::kInfo;
  g_format = Format::kText;
}

bool enabled(Level level) { return level >= g_level.load(std::memory_order_relaxed); }

std::uint64_t dropped_lines() {
  const std::uint64_t overrun = g_backend ? g_backend->pool->overrun_counter() : 0;
  return g_lost.load(std::memory_order_relaxed) + overrun;
}

void write(Level level, std::string_view event, Fields fields) {
  if (enabled(level)) submit(format_line(g_format, level, unix_now_ms(), event, fields));
}

void write_limited(Level level, std::string_view event, std::string_view key, Fields fields) {
  if (!enabled(level)) return;
  RateLimit::Verdict verdict;
  {
    SharedLimit& shared = shared_limit();
    const std::lock_guard lock(shared.mutex);
    verdict = shared.limit.ask(event, key, steady_now_ms());
  }
  if (verdict.allowed) submit(format_line(g_format, level, unix_now_ms(), event, fields, verdict.suppressed));
}

std::string format_line(Format format, Level level, std::int64_t unix_ms, std::string_view event, Fields fields,
                        std::uint64_t suppressed) {
  const bool json = format == Format::kJson;
  std::string line;
  line.reserve(128);
  if (json) line += "{\"time\":\"";
  append_timestamp(line, unix_ms);
  line += json ? "\",\"level\":\"" : " ";
  line += name_of(level);
  line += json ? "\",\"event\":" : " ";
  append_value(line, event, json ? append_json_string : append_log_value);
  const auto append_field = json ? append_json_field : append_text_field;
  for (const Field& field : fields) append_field(line, field);
  if (suppressed > 0) append_field(line, Field("suppressed", suppressed));
  if (json) line += '}';
  line += '\n';
  return line;
}

}  // namespace nearcached::daemon::log
