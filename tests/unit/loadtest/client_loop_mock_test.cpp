// The client loop against a scripted server on a unix socket.
#include "loadtest/client_loop.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "loadtest/workload.hpp"

using namespace nearcached::loadtest;

namespace {

// Serves one connection with `script`, which gets the socket, and closes it when the script returns.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::function<void(int)> script) {
    std::string directory = "/tmp/nearcached-loadtest-XXXXXX";
    REQUIRE(::mkdtemp(directory.data()) != nullptr);
    directory_ = directory;
    path_ = directory + "/server.sock";
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    REQUIRE(::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener_, 8) == 0);
    thread_ = std::thread([this, run = std::move(script)] {
      const int fd = ::accept(listener_, nullptr, nullptr);
      run(fd);
      ::close(fd);
    });
  }
  ~ScriptedServer() {
    thread_.join();
    ::close(listener_);
    ::unlink(path_.c_str());
    ::rmdir(directory_.c_str());
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;
  [[nodiscard]] std::string target() const { return "unix:" + path_; }

 private:
  std::string directory_;
  std::string path_;
  int listener_ = -1;
  std::thread thread_;
};

// Reads until `commands` more have come or the client has closed; returns how many came (every command has one '*').
std::size_t read_commands(int fd, std::size_t commands) {
  std::size_t seen = 0;
  char chunk[4096];
  while (seen < commands) {
    const ssize_t received = ::recv(fd, chunk, sizeof chunk, 0);
    if (received <= 0) {
      break;
    }
    seen += static_cast<std::size_t>(std::count(chunk, chunk + received, '*'));
  }
  return seen;
}

// Runs on the server's thread, where Catch can't be called: what is not sent shows as unanswered.
void answer(int fd, std::string_view reply, std::size_t times) {
  for (std::size_t i = 0; i < times; ++i) {
    static_cast<void>(::send(fd, reply.data(), reply.size(), MSG_NOSIGNAL));
  }
}

LoopStats run_against(ScriptedServer& server, std::uint32_t pipeline, std::uint64_t requests, double rate = 0,
                      double drain_seconds = 5) {
  ClientLoop loop({server.target(), 1, pipeline, rate, 0, drain_seconds});
  EveryKeyOnce source({}, Operation::kGet, requests);
  return loop.run(source);
}

}  // namespace

TEST_CASE("every answered request is counted, nulls and errors apart") {
  ScriptedServer server([](int fd) {
    read_commands(fd, 3);
    answer(fd, "$1\r\nv\r\n", 1);
    answer(fd, "$-1\r\n", 1);
    answer(fd, "-ERR out of luck\r\n", 1);
  });
  const LoopStats stats = run_against(server, 8, 3);
  CHECK(stats.replies == 3);
  CHECK(stats.latency.count() == 3);
  CHECK(stats.nulls == 1);
  CHECK(stats.errors == 1);
  CHECK(stats.first_error == "ERR out of luck");
  CHECK(stats.unanswered == 0);
}

TEST_CASE("a closed loop never has more than its pipeline in flight") {
  std::size_t first = 0;
  std::size_t second = 0;
  {
    ScriptedServer server([&](int fd) {
      first = read_commands(fd, 4);
      answer(fd, "+OK\r\n", first);
      second = read_commands(fd, 3);
      answer(fd, "+OK\r\n", second);
    });
    CHECK(run_against(server, 4, 7).replies == 7);
  }
  CHECK(first == 4);
  CHECK(second == 3);
}

TEST_CASE("requests on a connection that closes are unanswered, and the run ends") {
  ScriptedServer server([](int fd) {
    read_commands(fd, 5);
    answer(fd, "+OK\r\n", 2);
  });
  const LoopStats stats = run_against(server, 5, 5);
  CHECK(stats.replies == 2);
  CHECK(stats.unanswered == 3);
  CHECK(stats.disconnects == 1);
}

TEST_CASE("a server that never answers ends the run after the drain's time") {
  ScriptedServer server([](int fd) { read_commands(fd, SIZE_MAX); });
  const LoopStats stats = run_against(server, 5, 5, 0, 0.05);
  CHECK(stats.replies == 0);
  CHECK(stats.unanswered == 5);
}

TEST_CASE("an answer nobody asked for is an error") {
  ScriptedServer server([](int fd) {
    read_commands(fd, 1);
    answer(fd, "+OK\r\n+OK\r\n", 1);
    read_commands(fd, SIZE_MAX);
  });
  const LoopStats stats = run_against(server, 1, 1);
  CHECK(stats.errors == 1);
  CHECK(stats.disconnects == 1);
}

TEST_CASE("an open loop charges a stall to every request that was due meanwhile") {
  constexpr std::uint64_t kRequests = 100;
  ScriptedServer server([](int fd) { answer(fd, "+OK\r\n", read_commands(fd, kRequests)); });
  // 1000 a second and no answer before all have come: request n was due 99 - n milliseconds before the last one.
  const LoopStats stats = run_against(server, kRequests, kRequests, 1000);
  CHECK(stats.replies == kRequests);
  CHECK(stats.latency.max() >= 99'000'000);
  CHECK(stats.latency.percentile(50) >= 49'000'000);
}

TEST_CASE("a target that nobody listens on is named") {
  ClientLoop::Options options;
  options.target = "unix:/nonexistent/socket";
  CHECK_THROWS_WITH(ClientLoop(options), Catch::Contains("/nonexistent/socket"));
  options.target = "no-port";
  CHECK_THROWS_WITH(ClientLoop(options), Catch::Contains("no-port"));
}
