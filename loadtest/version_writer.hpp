// Writes versions of a few keys straight to the servers that own them, and notes when each was acknowledged.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "loadtest/frame_connection.hpp"
#include "loadtest/staleness.hpp"

namespace nearcached::loadtest {

class TrackingCache;

// The keys 0..owner.size() - 1 and the node that owns each.
struct Placement {
  std::vector<std::string> nodes;
  std::vector<std::size_t> owner;  // index into nodes
};

// Writes version 0 of every key to whichever node takes it: a node that does not own a key answers MOVED. Throws
// std::runtime_error when none takes it.
[[nodiscard]] Placement place_keys(const std::vector<std::string>& nodes, std::uint32_t keys, std::size_t value_bytes);

// The foreign writer: an open loop of SETs, one connection per node, keys drawn uniformly, versions of a key counting up.
//
// A write is acknowledged when its reply has been read here. If the scheduler is late in waking this thread the time noted
// is late as well, and delays come out too short, for all observers alike: that is why only their comparison counts.
// Bad at: rates above what one thread sends. Confined to the thread that calls run(); read the results after it.
class VersionWriter {
 public:
  struct Options {
    double rate = 10'000;  // writes per second
    double seconds = 5;
    std::size_t value_bytes = 64;
    std::uint64_t seed = 1;
    std::vector<TrackingCache*> told;  // caches that learn of a write from here, at its acknowledgement
  };
  static constexpr std::size_t kInFlightMax = 4096;  // a server further behind holds the schedule up

  VersionWriter(const Placement& placement, const Options& options);

  // Returns when all writes are acknowledged. Throws std::runtime_error on an error reply, a lost connection or a silence.
  void run();

  [[nodiscard]] const Acknowledgements& acknowledged() const { return acknowledged_; }
  [[nodiscard]] std::uint64_t writes() const { return writes_; }  // acknowledged ones
  [[nodiscard]] std::int64_t started() const { return started_; }
  [[nodiscard]] std::int64_t ended() const { return ended_; }

 private:
  struct Node {
    std::unique_ptr<FrameConnection> connection;
    std::deque<std::uint32_t> in_flight;  // keys, oldest first
    std::string batch;
  };

  void issue_due(std::int64_t now);
  void receive(Node& node);

  const Placement& placement_;
  Options options_;
  std::mt19937_64 random_;
  std::vector<Node> nodes_;
  std::vector<std::uint64_t> versions_;  // by key: the last one sent
  Acknowledgements acknowledged_;
  std::uint64_t issued_ = 0;
  std::uint64_t total_ = 0;
  std::uint64_t writes_ = 0;
  std::int64_t started_ = 0;
  std::int64_t ended_ = 0;
};

}  // namespace nearcached::loadtest
