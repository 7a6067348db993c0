// Drives many connections to one RESP server from one thread, in closed or open loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "loadtest/hdr_histogram.hpp"
#include "loadtest/reply_skimmer.hpp"
#include "loadtest/workload.hpp"

namespace nearcached::loadtest {

// What one run of a loop saw. Latencies are in nanoseconds.
struct LoopStats {
  HdrHistogram latency;
  std::uint64_t replies = 0;
  std::uint64_t nulls = 0;
  std::uint64_t errors = 0;
  std::uint64_t unanswered = 0;  // requests whose connection closed, or that had no reply when the drain ended
  std::uint64_t disconnects = 0;
  double seconds = 0;  // from the first request to the last reply
  std::string first_error;

  void merge(const LoopStats& other);
};

// Drives many connections from one thread over epoll.
//
// Closed loop (rate 0): every connection sends `pipeline` requests in one write, waits for all the answers, sends the next
// ones: what redis-benchmark does, so figures compare. Latency runs from the write.
//
// Open loop (rate > 0): request n is due at start + n / rate, whatever the server does; it goes to the next connection that
// has fewer than `pipeline` requests in flight, and its latency runs from when it was *due*. A server that stalls for a
// second is so charged for every request that should have been sent meanwhile, not for one per connection (coordinated
// omission). Due requests need no queue: their times follow from their number.
//
// Bad at: load that needs more than one core (run several loops), and latencies below the few microseconds that its own
// batch of events takes. One thread, except that several loops may run side by side.
class ClientLoop {
 public:
  struct Options {
    std::string target;  // host:port, [host]:port or unix:path
    std::uint32_t clients = 50;
    std::uint32_t pipeline = 1;
    double rate = 0;           // requests per second of this loop; 0: closed loop
    double seconds = 0;        // stop issuing after this time; 0: when the source ends
    double drain_seconds = 5;  // how long outstanding replies are waited for, and how long a silence may last
  };

  // Connects all clients; throws std::system_error or std::invalid_argument naming the target.
  explicit ClientLoop(const Options& options);
  ~ClientLoop();
  ClientLoop(const ClientLoop&) = delete;
  ClientLoop& operator=(const ClientLoop&) = delete;

  // Runs until the source or the time has ended and every reply is in (or the drain's time is over). Can be called again.
  LoopStats run(RequestSource& source);

 private:
  struct Connection;

  void issue_closed(Connection& connection);
  void issue_due();
  bool append_request(Connection& connection, std::int64_t charged_from);
  void flush(Connection& connection);
  void receive(Connection& connection);
  void drop(Connection& connection);
  void watch(Connection& connection, bool writable);
  [[nodiscard]] std::int64_t wait_nanoseconds() const;
  [[nodiscard]] bool done() const;
  void handle_events();

  Options options_;
  int epoll_ = -1;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::string chunk_;  // what one recv takes

  RequestSource* source_ = nullptr;
  LoopStats stats_;
  bool issuing_ = false;
  std::uint64_t in_flight_ = 0;
  std::uint64_t issued_ = 0;
  std::size_t next_connection_ = 0;
  std::int64_t now_ = 0;
  std::int64_t started_ = 0;
  std::int64_t last_reply_ = 0;
  std::int64_t silent_since_ = 0;  // the last reply, or when a request went out with no other in flight
  std::size_t connected_ = 0;
};

}  // namespace nearcached::loadtest
