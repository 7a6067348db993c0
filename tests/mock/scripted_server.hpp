// A loop in a thread, a server that says what the test tells it to, and a sink that remembers. Nothing here sleeps: every
// wait is for a condition and has a bound, and time passes only where a test hands its own `now` to a tick.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "protocol/writer.hpp"
#include "tiers/io/event_loop.hpp"
#include "tiers/io/socket.hpp"
#include "tiers/upstream/request.hpp"

namespace nearcached::testing {

inline constexpr std::chrono::seconds kPatience{20};

inline std::string command(std::initializer_list<std::string_view> words) {
  std::string bytes;
  protocol::append_command(bytes, words);
  return bytes;
}
inline std::string bulk(std::string_view text) {
  std::string bytes;
  protocol::append_bulk(bytes, text);
  return bytes;
}

// What runs on the loop is called there, one step at a time. Owners of streams are made before and destroyed after it runs.
class LoopThread {
 public:
  LoopThread() = default;
  ~LoopThread() { stop(); }
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  tiers::io::EventLoop loop;

  void start() {
    thread_ = std::thread([this] { loop.run(); });
  }
  void stop() {
    if (!thread_.joinable()) return;
    loop.stop();
    thread_.join();
  }
  // Runs `step` on the loop; when this returns, the turn it ran in has ended and everything written in it has left.
  template <class Step>
  void call(Step step) {
    run_one(std::move(step));
    run_one([] {});
  }

 private:
  template <class Step>
  void run_one(Step step) {
    const auto done = std::make_shared<std::promise<void>>();
    loop.post([done, step] {
      step();
      done->set_value();
    });
    if (done->get_future().wait_for(kPatience) != std::future_status::ready) throw std::runtime_error("the loop hangs");
  }

  std::thread thread_;
};

// One accepted connection, in blocking words.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}
  ~Peer() { close(); }
  Peer(Peer&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Peer& operator=(Peer&&) = delete;

  // The next bytes, as many as `wanted` has: to be compared with it.
  [[nodiscard]] std::string read_like(const std::string& wanted) { return read(wanted.size()); }
  [[nodiscard]] std::string read(std::size_t bytes) {
    std::string got;
    while (got.size() < bytes && readable(kPatience)) {
      char chunk[65536];
      const ssize_t n = recv(fd_, chunk, std::min(sizeof chunk, bytes - got.size()), 0);
      if (n <= 0) break;
      got.append(chunk, static_cast<std::size_t>(n));
    }
    return got;
  }
  // True if not a byte lies here to be read, closed or not. Only after LoopThread::call() does that mean that none was sent.
  [[nodiscard]] bool quiet() {
    char byte = 0;
    return recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
  }
  // True once the other side has closed, without having sent anything more.
  [[nodiscard]] bool closed() {
    char byte = 0;
    return readable(kPatience) && recv(fd_, &byte, 1, 0) <= 0;
  }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) throw std::runtime_error("the peer is gone");
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  [[nodiscard]] bool readable(std::chrono::milliseconds bound) const {
    pollfd poll_fd{fd_, POLLIN, 0};
    return ::poll(&poll_fd, 1, static_cast<int>(bound.count())) == 1;
  }

  int fd_;
};

class ScriptedServer {
 public:
  ScriptedServer() : fd_(tiers::io::listen_tcp("127.0.0.1", 0)), port_(tiers::io::local_port(fd_)) {}
  ~ScriptedServer() { shut(); }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  [[nodiscard]] tiers::upstream::Endpoint endpoint() const { return {"127.0.0.1", port_}; }
  [[nodiscard]] std::string address() const { return endpoint().text(); }
  [[nodiscard]] Peer accept() {
    pollfd poll_fd{fd_, POLLIN, 0};
    const int ready = ::poll(&poll_fd, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count()));
    const int fd = ready == 1 ? ::accept(fd_, nullptr, nullptr) : -1;
    if (fd < 0) throw std::runtime_error("nobody connects");
    tiers::io::set_no_delay(fd);
    return Peer(fd);
  }
  [[nodiscard]] bool nobody_waits() const {
    pollfd poll_fd{fd_, POLLIN, 0};
    return ::poll(&poll_fd, 1, 0) == 0;
  }
  // From now on connections are refused.
  void shut() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
  std::uint16_t port_;
};

struct Outcome {
  std::string bytes;  // of the reply
  std::size_t pieces = 0;
  std::string error;  // of on_failure
  bool broken = false;
  std::size_t ends = 0;  // exactly one is right
  std::size_t rerouted = 0;
  std::size_t published = 0;  // calls of on_published
  bool told = false;
  std::string untold_why;
  std::string unknown;  // the request, of on_outcome_unknown
};

// Remembers by token. Readable from any thread.
class Recorder final : public tiers::upstream::ReplySink {
 public:
  void on_reply(std::uint64_t token, std::string_view bytes, bool last) override {
    change(token, [&](Outcome& outcome) {
      outcome.bytes += bytes;
      ++outcome.pieces;
      outcome.ends += last ? 1 : 0;
    });
  }
  void on_failure(std::uint64_t token, std::string_view error, bool broken) override {
    change(token, [&](Outcome& outcome) {
      outcome.error = error;
      outcome.broken = broken;
      ++outcome.ends;
    });
    if (when_failed) when_failed(token);
  }
  void on_rerouted(std::uint64_t token) override {
    change(token, [](Outcome& outcome) { ++outcome.rerouted; });
  }
  void on_published(std::uint64_t token, bool told, std::string_view error) override {
    change(token, [&](Outcome& outcome) {
      ++outcome.published;
      outcome.told = told;
      outcome.untold_why = error;
    });
  }
  void on_outcome_unknown(std::uint64_t token, std::string_view request) override {
    change(token, [&](Outcome& outcome) { outcome.unknown = request; });
  }

  [[nodiscard]] Outcome of(std::uint64_t token) {
    const std::lock_guard lock(mutex_);
    return outcomes_[token];
  }
  // Until `good` holds for the token's outcome, which is returned; after the bound as it is then.
  template <class Good>
  [[nodiscard]] Outcome wait_until(std::uint64_t token, Good good) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPatience, [&] { return good(outcomes_[token]); });
    return outcomes_[token];
  }
  [[nodiscard]] Outcome wait(std::uint64_t token) {
    return wait_until(token, [](const Outcome& outcome) { return outcome.ends != 0; });
  }
  [[nodiscard]] Outcome wait_published(std::uint64_t token) {
    return wait_until(token, [](const Outcome& outcome) { return outcome.published != 0; });
  }
  [[nodiscard]] Outcome wait_rerouted(std::uint64_t token, std::size_t times) {
    return wait_until(token, [&](const Outcome& outcome) { return outcome.rerouted >= times; });
  }

  std::function<void(std::uint64_t)> when_failed;

 private:
  template <class Change>
  void change(std::uint64_t token, Change apply) {
    const std::lock_guard lock(mutex_);
    apply(outcomes_[token]);
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, Outcome> outcomes_;
};

}  // namespace nearcached::testing
