// Sends a worker's part of the write queue to the upstream.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tiers/insight/counters.hpp"
#include "tiers/io/clock.hpp"
#include "tiers/near_cache.hpp"
#include "tiers/upstream/router.hpp"
#include "tiers/write_behind/write_queue.hpp"

namespace nearcached::tiers {

struct WriteFlusherOptions {
  std::uint32_t worker = 0;   // sends to the primaries whose index leaves this rest ...
  std::uint32_t workers = 1;  // ... when divided by this
  bool announce = false;      // peers hear of writes over the bus: a flush that they were not told of is repeated
  // How long a node may take to answer. Long on purpose: a write given up while it may still be executed could come after
  // the next one of its key.
  std::int64_t timeout_us = 30'000'000;
  std::function<std::uint64_t()> safe_sequence;  // what a restart knows of
  // nullptr: there is no room for one identity more.
  std::function<upstream::IdentityPtr(std::uint32_t database)> identity_of;
  // The upstream refuses it for good. True: it is written down, durably, and the queue may forget it. If not it goes again.
  std::function<bool(const write_behind::WriteQueue::Flight&, std::string_view error)> on_dead_letter;
  std::function<void(std::string_view request)> on_outcome_unknown;
};

// Each flushed write is fenced like a client's: from its sending until its answer, which ends the fence before the queue
// calls the key clean (coherence.md, Write-behind). What is answered with an error that may pass, or is not answered, goes
// back to the queue, which sends it again later: a set or a delete done twice is done once.
//
// It is not sent while a direct write of the key is under way, which found nothing of it in the log: should it be executed
// behind the flush, a restart would replay the flushed value over it. One that takes longer than its client waits is
// nobody's.
//
// What it can't prevent: a node that takes a write off its socket after the connection was given up for lost, and after the
// key's next write was acknowledged on another connection, would take the key back. The window is a stopped node that is
// neither replaced nor restarted for longer than timeout_us.
//
// Threading: confined to its worker.
class WriteFlusher final : public upstream::ReplySink {
 public:
  WriteFlusher(WriteFlusherOptions options, upstream::Router& router, NearCache& cache, write_behind::WriteQueue& queue,
               insight::Counters& counters);

  // Sends what is due: a few times a second, when the queue says that something is urgent ...
  void tick(std::int64_t now_us);
  // ... and when what was in flight has made room. While clients keep the worker busy that waits for the tick: what leaves
  // later may be replaced meanwhile.
  void end_turn(bool busy);

 private:
  struct Boarded {
    write_behind::WriteQueue::Flight flight;
    std::uint64_t hash = 0;
    std::int64_t since_us = 0;
  };
  struct Sent {
    write_behind::WriteQueue::Flight flight;
    std::uint64_t hash = 0;
    std::int64_t sent_us = 0;
    std::string reply;
    bool replied = false;
    bool published = true;
    bool told = true;
  };

  void on_reply(std::uint64_t token, std::string_view bytes, bool last) override;
  void on_failure(std::uint64_t token, std::string_view error, bool broken) override;
  void on_rerouted(std::uint64_t) override {}
  void on_published(std::uint64_t token, bool told, std::string_view error) override;
  void on_outcome_unknown(std::uint64_t, std::string_view request) override { options_.on_outcome_unknown(request); }

  [[nodiscard]] upstream::Router::Lane* lane_of(std::uint32_t database);
  void send_boarded(std::int64_t now_us);
  void send(const Boarded& boarded, std::int64_t now_us);
  void encode(const write_behind::WriteQueue::Flight& flight);
  void end(std::uint64_t token, bool failed);

  const WriteFlusherOptions options_;
  upstream::Router& router_;
  NearCache& cache_;
  write_behind::WriteQueue& queue_;
  insight::Counters& counters_;
  std::map<std::uint32_t, upstream::Router::Lane*> lanes_;  // by database
  std::vector<write_behind::WriteQueue::Flight> flights_;   // scratch of one tick
  std::vector<Boarded> boarded_;                            // taken from the queue, and not sent yet
  std::string bytes_;                                       // scratch of one request
  std::vector<write_behind::WriteQueue::Entry*> applied_;   // in this turn
  bool landed_ = false;                                     // since the last tick
  std::vector<Sent> sent_;                                  // by token
  std::vector<std::uint64_t> free_;                         // tokens
};

}  // namespace nearcached::tiers
