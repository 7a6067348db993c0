#include "daemon/log.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/daemon/strict_json.hpp"

namespace nearcached::daemon::log {
namespace {

constexpr std::int64_t kMoment = 1'795'381'200'123;  // 2026-11-22T21:00:00.123Z

std::string text_line(std::string_view event, Fields fields) {
  return format_line(Format::kText, Level::kInfo, kMoment, event, fields);
}

std::map<std::string, std::string> json_line(std::string_view event, Fields fields) {
  const std::string line = format_line(Format::kJson, Level::kWarn, kMoment, event, fields);
  REQUIRE(std::count(line.begin(), line.end(), '\n') == 1);
  REQUIRE(line.back() == '\n');
  const auto values = testing::StrictJson::parse(line);
  REQUIRE(values);
  return *values;
}

class Pipe {
 public:
  Pipe() { REQUIRE(::pipe2(fds_.data(), O_CLOEXEC) == 0); }
  ~Pipe() {
    close_write();
    ::close(fds_[0]);
  }
  [[nodiscard]] int write_end() const { return fds_[1]; }
  void close_write() {
    if (fds_[1] >= 0) ::close(fds_[1]);
    fds_[1] = -1;
  }
  // What is in the pipe now.
  [[nodiscard]] std::string drain() const {
    std::string out;
    std::array<char, 4096> chunk{};
    pollfd waited{fds_[0], POLLIN, 0};
    while (::poll(&waited, 1, 0) == 1 && (waited.revents & POLLIN) != 0) {
      const ssize_t n = ::read(fds_[0], chunk.data(), chunk.size());
      if (n <= 0) break;
      out.append(chunk.data(), static_cast<std::size_t>(n));
    }
    return out;
  }
  // Fills the pipe, so that a writer finds it stuck.
  void block() const {
    REQUIRE(::fcntl(fds_[1], F_SETFL, O_NONBLOCK) == 0);
    const std::array<char, 4096> junk{};
    while (::write(fds_[1], junk.data(), junk.size()) > 0) {}
    REQUIRE(::fcntl(fds_[1], F_SETFL, 0) == 0);
  }

 private:
  std::array<int, 2> fds_{-1, -1};
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t start = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', start)) {
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  CHECK(start == text.size());
  return lines;
}

TEST_CASE("a text line is time, level, event and fields") {
  const std::string address = "127.0.0.1:6380";
  CHECK(text_line("ready", {{"listen", address}, {"threads", 2}}) ==
        "2026-11-22T21:00:00.123Z info ready listen=127.0.0.1:6380 threads=2\n");
}

TEST_CASE("every level has its name") {
  const auto line = [](Level level) { return format_line(Format::kText, level, 0, "e", {}); };
  CHECK(line(Level::kDebug) == "1970-01-01T00:00:00.000Z debug e\n");
  CHECK(line(Level::kInfo) == "1970-01-01T00:00:00.000Z info e\n");
  CHECK(line(Level::kWarn) == "1970-01-01T00:00:00.000Z warn e\n");
  CHECK(line(Level::kError) == "1970-01-01T00:00:00.000Z error e\n");
}

TEST_CASE("numbers keep all their digits and booleans are words") {
  CHECK(text_line("e", {{"max", ~std::uint64_t{0}},
                        {"min", std::int64_t{-9'223'372'036'854'775'807 - 1}},
                        {"yes", true},
                        {"no", false}}) ==
        "2026-11-22T21:00:00.123Z info e max=18446744073709551615 min=-9223372036854775808 yes=true no=false\n");
}

TEST_CASE("a string literal is text, not a boolean") {
  CHECK(text_line("e", {{"v", "false alarm"}}) == "2026-11-22T21:00:00.123Z info e v=\"false alarm\"\n");
}

TEST_CASE("no value can forge a second line or a second field") {
  const std::string attack = "x\n2026-11-22T21:00:00.123Z error forged key=1\r\x1b[0m\" admin=true";
  const std::string line = text_line("e", {{"key", attack}});
  CHECK(std::count(line.begin(), line.end(), '\n') == 1);
  CHECK(line ==
        "2026-11-22T21:00:00.123Z info e "
        R"(key="x\n2026-11-22T21:00:00.123Z error forged key=1\r\u001b[0m\" admin=true")"
        "\n");
  CHECK(json_line("e", {{"key", attack}}).at("key") == attack);
}

TEST_CASE("a JSON line is one object with typed values") {
  const auto values = json_line("upstream_lost", {{"node", "a:1"}, {"pending", 7u}, {"fill", true}});
  CHECK(values.at("time") == "2026-11-22T21:00:00.123Z");
  CHECK(values.at("level") == "warn");
  CHECK(values.at("event") == "upstream_lost");
  CHECK(values.at("node") == "a:1");
  CHECK(values.at("pending") == "7");
  CHECK(values.at("fill") == "true");
  CHECK(values.size() == 6);
}

TEST_CASE("a value as large as a Redis key is cut") {
  const std::string key(10u << 20, 'k');
  CHECK(text_line("e", {{"key", key}}).size() < kValueBytesMax + 100);
  const std::string exact(kValueBytesMax, 'k');
  CHECK(json_line("e", {{"key", exact}}).at("key") == exact);
  CHECK(json_line("e", {{"key", exact + "k"}}).at("key") == exact + "...");
}

TEST_CASE("held-back lines are told on the line that passes") {
  CHECK(format_line(Format::kText, Level::kWarn, 0, "e", {{"a", 1}}, 12) ==
        "1970-01-01T00:00:00.000Z warn e a=1 suppressed=12\n");
}

TEST_CASE("configuration's levels and formats map to the log's") {
  CHECK(level_of(config::LogLevel::kDebug) == Level::kDebug);
  CHECK(level_of(config::LogLevel::kInfo) == Level::kInfo);
  CHECK(level_of(config::LogLevel::kWarn) == Level::kWarn);
  CHECK(level_of(config::LogLevel::kError) == Level::kError);
  CHECK(format_of(config::LogFormat::kText) == Format::kText);
  CHECK(format_of(config::LogFormat::kJson) == Format::kJson);
}

TEST_CASE("shutdown writes what is queued, in order, and lines below the level are not written") {
  Pipe pipe;
  init(Level::kWarn, Format::kText, pipe.write_end());
  CHECK_FALSE(enabled(Level::kInfo));
  for (int i = 0; i < 500; ++i) {
    info("quiet", {{"n", i}});
    warn("loud", {{"n", i}});
  }
  shutdown();
  const auto lines = lines_of(pipe.drain());
  REQUIRE(lines.size() == 500);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string tail = " warn loud n=" + std::to_string(i);
    REQUIRE(lines[i].size() > tail.size());
    CHECK(lines[i].substr(lines[i].size() - tail.size()) == tail);
  }
}

TEST_CASE("lines of several threads are never mixed") {
  Pipe pipe;
  init(Level::kInfo, Format::kJson, pipe.write_end());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 100; ++i) info("tick", {{"thread", t}, {"text", "a \"quoted\" text"}});
    });
  }
  for (std::thread& thread : threads) thread.join();
  shutdown();
  const auto lines = lines_of(pipe.drain());
  CHECK(lines.size() == 400);
  for (const std::string& line : lines) CHECK(testing::StrictJson::parse(line));
}

TEST_CASE("a stuck stderr stops neither the callers nor shutdown, and every lost line is counted") {
  constexpr int kLines = 5000;
  const std::uint64_t before = dropped_lines();
  Pipe pipe;
  pipe.block();
  init(Level::kInfo, Format::kText, pipe.write_end());
  for (int i = 0; i < kLines; ++i) info("tick", {{"n", i}});
  shutdown();  // would wait for ever if the writer blocked
  CHECK(dropped_lines() == before + kLines);
}

TEST_CASE("a reader that went away costs lines, not the process") {
  const std::uint64_t before = dropped_lines();
  std::array<int, 2> fds{};
  REQUIRE(::pipe2(fds.data(), O_CLOEXEC) == 0);
  ::close(fds[0]);
  const auto old_handler = ::signal(SIGPIPE, SIG_IGN);
  init(Level::kInfo, Format::kText, fds[1]);
  info("tick");
  shutdown();
  ::signal(SIGPIPE, old_handler);
  ::close(fds[1]);
  CHECK(dropped_lines() == before + 1);
}

TEST_CASE("a repeating event is limited per event and key") {
  Pipe pipe;
  init(Level::kInfo, Format::kText, pipe.write_end());
  for (int i = 0; i < 100; ++i) {
    write_limited(Level::kWarn, "log_test_lost", "a", {{"node", "a"}});
    write_limited(Level::kWarn, "log_test_lost", "b", {{"node", "b"}});
    write_limited(Level::kDebug, "log_test_lost", "c", {{"node", "c"}});
  }
  shutdown();
  const auto lines = lines_of(pipe.drain());
  const auto count = [&](std::string_view what) {
    return std::count_if(lines.begin(), lines.end(),
                         [&](const std::string& line) { return line.find(what) != std::string::npos; });
  };
  CHECK(count("node=a") == 5);
  CHECK(count("node=b") == 5);
  CHECK(count("node=c") == 0);
}

}  // namespace
}  // namespace nearcached::daemon::log
