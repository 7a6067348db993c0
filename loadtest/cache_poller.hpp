// Reads all keys through caches at a steady pace and notes which versions they answer with.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "loadtest/frame_connection.hpp"
#include "loadtest/staleness.hpp"

namespace nearcached::loadtest {

class Readiness;
class TrackingCache;

// Every `interval` asks every cache for every key, at the same instants: sidecars by a pipeline of GETs on each connection,
// bare caches, whose connections it serves too, by looking into them. Equal instants are what makes the two comparable:
// whatever hides between two polls hides for both.
//
// An open loop: a poll goes out whether or not the previous ones are answered, up to kPollsInFlightMax per connection, so
// that a sidecar that stalls is asked during its stall as well (else it would be sampled least when it is worst). Polls that
// were due while this thread did not run are not made up for but counted.
// Bad at: seeing windows shorter than the interval more often than by chance. Confined to the thread that calls run().
class CachePoller {
 public:
  struct Options {
    std::vector<std::string> sidecars;
    std::vector<TrackingCache*> caches;
    std::uint32_t keys = 32;
    std::uint32_t connections = 2;  // per sidecar; each has its share of the keys
    std::int64_t interval_ns = 100'000;
  };
  static constexpr std::size_t kPollsInFlightMax = 1024;

  // Connects; throws as FrameConnection does.
  explicit CachePoller(const Options& options);

  // Until `stop` and, at most a second later, the last answer. Throws std::runtime_error on an error reply.
  void run(const std::atomic<bool>& stop);

  // After the run; in the order of Options::sidecars.
  [[nodiscard]] const std::vector<Observations>& observed() const { return observed_; }
  [[nodiscard]] std::uint64_t polls() const { return polls_; }
  [[nodiscard]] std::uint64_t polls_missed() const { return polls_missed_; }    // due while this thread did not run
  [[nodiscard]] std::uint64_t polls_refused() const { return polls_refused_; }  // too many were unanswered

 private:
  struct Connection {
    std::unique_ptr<FrameConnection> stream;
    std::size_t sidecar = 0;
    std::vector<std::uint32_t> keys;
    std::string request;            // a GET of each key
    std::deque<std::int64_t> sent;  // polls not completely answered, oldest first
    std::size_t answered = 0;       // keys of the oldest one
  };

  void poll(std::int64_t now);
  void receive(Connection& connection);
  // Sources are numbered: the connections to sidecars, then each cache's nodes.
  void receive_from(std::size_t source);
  void watch_all(Readiness& readiness) const;
  [[nodiscard]] bool answered() const;

  Options options_;
  std::vector<Connection> connections_;
  std::vector<Observations> observed_;
  std::uint64_t polls_ = 0;
  std::uint64_t polls_missed_ = 0;
  std::uint64_t polls_refused_ = 0;
};

}  // namespace nearcached::loadtest
