// Reads for L1: one fill connection per node and identity in the whole process, each owned by one worker.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tiers/fill_connection.hpp"
#include "tiers/near_cache.hpp"

namespace nearcached::tiers {

// Gets the answer of a fill. Called on the worker's thread, never from inside FillService::read.
class FillSink {
 public:
  // `answered`: `bytes` is the reply (RESP3). Otherwise `bytes` is the command, to be sent the ordinary way.
  virtual void on_fill(std::uint64_t token, bool answered, std::string_view bytes) = 0;
  // Of barrier().
  virtual void on_barrier(std::uint64_t token) = 0;
  // Of prove().
  virtual void on_proven() = 0;

 protected:
  ~FillSink() = default;
};

struct FillServiceOptions {
  coherence::FillLinkOptions link;  // but for what is each identity's own: credentials, database
  std::int64_t connect_timeout_us = 1'000'000;
  const io::Tls* tls = nullptr;  // plain
  // Called on the owning worker's thread when a link changes its state: node, identity, link.
  std::function<void(const upstream::Endpoint&, std::uint32_t, const coherence::FillLink&)> on_state;
  // A node of a cluster said so of its lowest slot, when asked at that time: node, slot, when. May be empty.
  std::function<void(const upstream::Endpoint&, std::uint16_t, std::int64_t)> on_own_view;
  // A peer wants all keys with this prefix gone: walks the store, so not here.
  std::function<void(std::string)> purge_prefix;
  // A hit that was untrue although nothing had been heard of the key: node, slot.
  std::function<void(const upstream::Endpoint&, std::uint16_t)> on_audit_stale;
};

// A hit as it was served, to be compared with the upstream.
struct AuditSample {
  std::string reply;  // RESP3
  coherence::FenceTable::Stamp fence;
  std::int64_t hit_us = 0;
  std::int64_t expires_at_ms = 0;
};

// What is known of one fill link, for the statistics.
struct FillLinkRow {
  upstream::Endpoint endpoint;
  std::uint32_t identity = 0;
  coherence::FillLinkState state = coherence::FillLinkState::kClosed;
  std::string reason;
  coherence::ChangeSource source = coherence::ChangeSource::kTracking;
  std::string source_reason;
  std::int64_t proven_us = 0;  // 0: not
  std::uint64_t invalidations = 0;
  std::uint64_t bus_gaps = 0;
  std::size_t in_flight = 0;
  std::size_t waiting = 0;
};

// One per worker. A read goes to the worker that owns the node (by a hash of its address, so that it never changes with the
// topology): misses collected during a turn hop there in one message per worker, their answers come back the same way. Why
// one connection per process and not per worker: coherence.md, Fill connections.
//
// Bad at: latency of a miss under many workers, by the hop. Threading: read(), tick(), flush() on the worker's own thread;
// workers reach each other through their loops' mailboxes.
class FillService {
 public:
  struct Peers {
    std::vector<io::EventLoop*> loops;  // by worker
    std::vector<FillService*> services;
  };

  FillService(std::uint32_t worker, io::EventLoop& loop, io::Resolver& resolver, NearCache& cache,
              insight::Counters& counters, FillServiceOptions options);
  ~FillService();

  // Once, before the loops run; the same for all.
  void set_peers(const Peers* peers) { peers_ = peers; }
  // Ends all links; in-flight reads are not answered any more.
  void close();

  // Reads for `sink`, which must live until it is told. False: the node's link refuses, read the ordinary way.
  [[nodiscard]] bool read(const upstream::IdentityPtr& identity, const coherence::FillRead& read, FillSink& sink,
                          std::uint64_t token, std::int64_t now_us);
  // The slot's link kept a read waiting in vain while its node answers. When that goes on, reads are not made for L1 for a
  // while; once is what a node that comes back looks like.
  void pass_by(const upstream::IdentityPtr& identity, std::uint16_t slot, std::int64_t now_us);
  // Compares a hit with the upstream, some time; nobody is told but the counters.
  void audit(const upstream::IdentityPtr& identity, const coherence::FillRead& read, AuditSample sample);
  // Tells `sink` once the link of that slot's node has proven that all pushes up to now are here, or is lost.
  void prove(const upstream::IdentityPtr& identity, std::uint16_t slot, std::int64_t since_us, FillSink& sink);
  // Tells `sink` once every link of the process has handled all that its node had pushed by now: what a command changed that
  // named no keys (coherence.md, Installing). The upstream must have answered that command.
  void barrier(FillSink& sink, std::uint64_t token);
  // Where reads go from now on; opens the links to its nodes for the configured identity.
  void set_topology(upstream::TopologyPtr topology, const upstream::IdentityPtr& configured);

  void tick(std::int64_t now_us);
  void flush();
  void links(std::vector<FillLinkRow>& rows) const;
  // Of reads that wait for this worker's links.
  [[nodiscard]] std::size_t held_bytes() const;

 private:
  using LinkKey = std::pair<std::uint32_t, upstream::Endpoint>;
  static constexpr std::size_t kTooLargeSlots = 1024;
  static constexpr std::int64_t kAskAgainUs = 50'000;   // a link that refused is not asked again before
  static constexpr std::int64_t kPassByUs = 2'000'000;  // nor one that kept reads waiting in vain
  static constexpr std::int64_t kInVainUs = 200'000;    // for at least so long

  struct Request {
    upstream::IdentityPtr identity;
    upstream::Endpoint node;
    std::string key;
    std::string command;
    std::string variant;
    std::uint64_t hash = 0;
    std::uint16_t slot = 0;
    protocol::Caching caching = protocol::Caching::kKey;
    std::int64_t not_before_us = 0;
    std::shared_ptr<AuditSample> audit;
    coherence::FillWaiter waiter;
    std::uint64_t topology_version = 0;
  };
  struct Answer {
    coherence::FillWaiter waiter;
    bool answered = false;
    std::shared_ptr<const std::string> bytes;
    std::optional<LinkKey> refused;  // why it is not answered
  };
  class Link;
  struct Barrier;

  [[nodiscard]] std::uint32_t owner_of(const upstream::Endpoint& node) const;
  // nullptr: no room for another link, the node's keys are not cached.
  [[nodiscard]] Link* link_to(const upstream::IdentityPtr& identity, const upstream::Endpoint& node);
  [[nodiscard]] Request make_request(const upstream::IdentityPtr& identity, const coherence::FillRead& read,
                                     const upstream::Endpoint& node) const;
  void hand_over(Request request);
  void serve(const Request& request);
  void start_proof(const upstream::IdentityPtr& identity, const upstream::Endpoint& node, std::int64_t since_us,
                   FillService& origin, FillSink& sink);
  [[nodiscard]] bool passed_by(const LinkKey& key, std::int64_t now_us);
  // Of a read that hopped here: the reply, if it is in L1 by now.
  [[nodiscard]] bool answer_from_l1(const Request& request, std::int64_t now_us);
  void collect(std::int64_t now_us);
  void start_barrier(const std::shared_ptr<Barrier>& barrier);
  void answer(Answer answer);
  void deliver(std::vector<Answer>& answers);

  const std::uint32_t worker_;
  io::EventLoop& loop_;
  io::Resolver& resolver_;
  NearCache& cache_;
  insight::Counters& counters_;
  const FillServiceOptions options_;
  const Peers* peers_ = nullptr;
  upstream::TopologyPtr topology_;
  // Direct-mapped by hash: keys whose value is too large to keep. They are read the ordinary way, where they stream, until
  // they change.
  std::vector<std::uint64_t> too_large_ = std::vector<std::uint64_t>(kTooLargeSlots);
  std::map<LinkKey, std::unique_ptr<Link>> links_;
  std::vector<std::vector<Request>> requests_out_;  // by worker
  std::vector<std::vector<Answer>> answers_out_;    // by worker
  std::vector<Answer> answers_here_;
  // Links that are not asked: until then, or until one of the process serves that did not.
  struct PassedBy {
    std::int64_t until_us = 0;
    std::uint64_t servings = 0;
  };
  std::map<LinkKey, PassedBy> passed_by_;
  std::map<LinkKey, std::int64_t> in_vain_since_us_;
  std::int64_t next_collect_us_ = 0;
};

}  // namespace nearcached::tiers
