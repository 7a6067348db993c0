// The upstream connections that clients of a worker have for themselves for a while.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tiers/upstream/pinned_connection.hpp"

namespace nearcached::tiers::upstream {

// Of the process: what all workers' pools have together.
struct PinnedBudget {
  std::size_t max = 500;
  std::atomic<std::size_t> open{0};    // in use, idle, or being opened
  std::atomic<std::size_t> wanted{0};  // acquirers that wait for room
};

struct PinnedPoolOptions {
  std::size_t min = 10;  // idle connections that are kept while the pool is used
  std::int64_t acquire_timeout_us = 10'000'000;
  std::int64_t connect_timeout_us = 1'000'000;
  const io::Tls* tls = nullptr;  // plain
};

struct PinnedPoolCounts {
  std::size_t in_use = 0;
  std::size_t idle = 0;
  std::size_t waiting = 0;
  std::uint64_t acquired = 0;
  std::uint64_t opened = 0;
  std::uint64_t timeouts = 0;
};

// How many connections the pool should have, by Little's law: acquisitions per second times how long each is held, and a
// fifth more. Moving averages with a half-life of some seconds. Pure; confined to its pool.
class PinnedSizing {
 public:
  void acquired() { ++acquired_; }
  void released(std::int64_t held_us);
  // Once a second.
  void second();
  [[nodiscard]] std::size_t target() const;

 private:
  double rate_ = 0;  // per second
  double held_s_ = 0;
  std::uint64_t acquired_ = 0;
};

// Connections are kept idle by (identity, version, node), because becoming somebody else takes a round trip that a new
// connection takes as well. At the process's limit an idle one of another kind makes room, here at once, in another worker
// at its next tick; if none is idle the acquirer waits its turn, up to acquire_timeout.
//
// Bad at: handing a connection from one worker to another (it is closed there and opened here).
// Threading: confined to the worker, the budget apart. `then` is never called from inside acquire().
class PinnedPool final : public PinnedHost {
 public:
  using Connection = std::unique_ptr<PinnedConnection>;
  // The connection, greeted and the owner's; or why there is none, as the text of an error reply.
  using Acquired = std::function<void(Connection connection, std::string_view error)>;
  static constexpr std::int64_t kIdleCloseUs = 10'000'000;  // what is over the target
  static constexpr std::int64_t kUnusedUs = 60'000'000;     // what is within it

  PinnedPool(io::EventLoop& loop, io::Resolver& resolver, PinnedPoolOptions options, PinnedBudget& budget);
  ~PinnedPool();

  // Returns a ticket for cancel().
  std::uint64_t acquire(PinnedOwner& owner, const IdentityPtr& identity, protocol::RespVersion version,
                        const Endpoint& endpoint, Acquired then);
  // `then` is not called any more.
  void cancel(std::uint64_t ticket);
  // `clean`: as it was when it came: authenticated, in its database, nothing watched or subscribed. Else it is closed.
  void give_back(Connection connection, bool clean);

  void flush();
  void tick(std::int64_t now_us);
  [[nodiscard]] PinnedPoolCounts counts() const;

 private:
  struct Wanted {
    std::uint64_t ticket = 0;
    PinnedOwner* owner = nullptr;
    IdentityPtr identity;
    protocol::RespVersion version = protocol::RespVersion::kResp2;
    Endpoint endpoint;
    Acquired then;
    std::int64_t asked_us = 0;
    PinnedConnection* opening = nullptr;  // its own, while that is being greeted
  };
  struct Idle {
    Connection connection;
    std::int64_t since_us = 0;
  };

  void on_ready(PinnedConnection& connection) override;
  void on_useless(PinnedConnection& connection, std::string_view why) override;
  void on_bytes(PinnedConnection& connection) override;

  // True: the acquirer has been served, and is gone from wanted_.
  void serve_waiting(std::int64_t now_us);
  [[nodiscard]] bool serve(Wanted& wanted, std::int64_t now_us);
  void hand_over(Wanted& wanted, Connection connection);
  [[nodiscard]] bool make_room();
  void discard(Connection connection);
  void serve_later();
  void refuse_late(std::int64_t now_us);
  void close_surplus(std::int64_t now_us);

  io::EventLoop& loop_;
  io::Resolver& resolver_;
  const PinnedPoolOptions options_;
  PinnedBudget& budget_;
  std::deque<Wanted> wanted_;  // the longest waiting first
  std::deque<Idle> idle_;      // the longest idle first
  std::vector<Connection> opening_;
  std::vector<Connection> graveyard_;                           // closed, and perhaps in the midst of a call
  std::unordered_map<PinnedConnection*, std::int64_t> in_use_;  // since when
  std::vector<PinnedConnection*> dirty_;
  PinnedSizing sizing_;
  std::uint64_t next_ticket_ = 1;
  std::uint64_t acquired_ = 0;
  std::uint64_t opened_ = 0;
  std::uint64_t timeouts_ = 0;
  std::int64_t next_second_us_ = 0;
  std::size_t announced_wanted_ = 0;  // of budget_.wanted
  bool serving_later_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace nearcached::tiers::upstream
