// The one connection per node and identity that both reads what L1 keeps and is told what changed: its protocol.
#pragma once

#include <bitset>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "protocol/command_table.hpp"
#include "protocol/reply_framer.hpp"
#include "protocol/reply_tree.hpp"
#include "protocol/request_parser.hpp"
#include "tiers/coherence/bus_inbox.hpp"
#include "tiers/coherence/fence_table.hpp"
#include "tiers/coherence/link_table.hpp"
#include "tiers/coherence/slot_epochs.hpp"
#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::coherence {

// Who asked. Opaque here: whoever submits knows what the words mean.
struct FillWaiter {
  void* sink = nullptr;
  std::uint64_t token = 0;
  std::uint32_t worker = 0;
};

// A read that L1 may keep the reply of.
struct FillRead {
  std::string_view key;
  std::uint64_t hash = 0;
  std::uint16_t slot = 0;
  std::string_view command;  // the whole request, RESP
  std::string_view variant;  // which read of the key it is (protocol::append_variant); empty: GET
  protocol::Caching caching = protocol::Caching::kKey;
  bool audit = false;  // asked to compare a hit with: nobody joins it, it is not to be kept
  // Of the slot, taken before the topology was asked for the node: whoever is told of a new owner bumps it, so that a read
  // which was routed by an older topology shows. Not given: as of now.
  std::optional<std::uint32_t> slot_epoch = {};
  // A flight that left earlier is not joined: its answer may be older than this reader may be told (CLOCK_BOOTTIME).
  std::int64_t not_before_us = 0;
};

// Of a key's hash and which read of it: no two that are read at a time have the same, but by chance.
[[nodiscard]] inline std::uint64_t read_id(std::uint64_t hash, std::string_view variant) {
  return variant.empty() ? hash : hash ^ std::hash<std::string_view>()(variant);
}

// What a fill stood on when it was sent. It may be installed while all of it still holds.
struct FillBasis {
  FenceTable::Stamp fence;
  std::uint32_t generation = 0;
  std::uint32_t slot_epoch = 0;
  std::uint16_t link = 0;
  std::uint16_t slot = 0;
};

struct FillResult {
  std::string_view key;
  std::uint64_t hash = 0;
  std::string_view command;
  std::string_view variant;
  // False: this connection can't answer (it broke, the node sends elsewhere): the waiters' reads go the ordinary way.
  bool answered = false;
  // May be kept, if `basis` still holds at the moment of installation.
  bool cacheable = false;
  // Nobody tells of all that may change it: it lives at most max_staleness, by its deadline.
  bool unwatched = false;
  // Nobody tells of every change in the order in which replies come: other reads of the key that are kept may be older.
  bool untold = false;
  bool audit = false;
  std::string_view reply;          // RESP3 bytes, valid during the call
  std::int64_t expires_at_us = 0;  // by the upstream's TTL, CLOCK_BOOTTIME; 0: it has none
  std::int64_t sent_us = 0;
  FillBasis basis;
  std::span<const FillWaiter> waiters;
};

enum class FillLinkState : std::uint8_t {
  kClosed,    // no connection
  kGreeting,  // HELLO, CLIENT TRACKING or the subscription, and the first probe are on their way
  kServing,   // fills are read
  kRefused,   // the upstream can't or won't serve what was asked for: state_reason() says why
};

// How changes are heard of, the best first.
enum class ChangeSource : std::uint8_t {
  kTracking,  // CLIENT TRACKING: the node tells, whoever writes
  kBus,       // sidecars tell each other over Pub/Sub: writes past them are not heard
  kTtl,       // nobody tells: entries live by their deadline
};

// Where the machine reports to. Called from within received(), disconnected() and tick().
class FillLinkEvents {
 public:
  virtual void on_filled(const FillResult& result) = 0;
  virtual void on_invalidated(std::string_view key) = 0;
  virtual void on_invalidated_all() = 0;
  // A peer's message: all keys of the store that begin with it, so with an empty one all there are.
  virtual void on_invalidated_prefix(std::string_view) {}
  // A peer's message is missing: everything of this link is unverified.
  virtual void on_gap() {}
  // In a cluster, when asked at that time the node said that this is the lowest of its slots.
  virtual void on_own_view(std::uint16_t /*lowest*/, std::int64_t /*asked_us*/) {}
  // So many slots came to or left the node's own view.
  virtual void on_slots_moved(std::size_t) {}
  virtual void on_state(FillLinkState state, std::string_view reason) = 0;

 protected:
  ~FillLinkEvents() = default;
};

struct FillLinkOptions {
  bool cluster = false;
  bool swapdb_never = false;  // nobody swaps databases on the upstream: saves the watch for it
  std::uint32_t database = 0;
  upstream::Credentials credentials;
  std::vector<ChangeSource> sources{ChangeSource::kTracking};  // tried in this order; not empty
  bool ttl_is_bound = false;  // kTtl was asked for, not fallen back to: entries live their l1_ttl, not max_staleness
  std::string bus_channel;
  std::uint64_t bus_publisher = 0;            // of this process
  std::int64_t max_staleness_us = 1'000'000;  // the smallest of all policies: a probe goes every third of it
  std::int64_t reply_timeout_us = 1'000'000;
  std::int64_t hold_us = 300'000;                      // a read waits so long for a link that is not serving
  std::size_t in_flight_max = 256;                     // reads on the connection; more wait their turn
  std::size_t waiting_max = 20'000;                    // reads that wait; a further one goes the ordinary way
  std::size_t joined_max = 10'000;                     // waiters of one read
  std::size_t held_bytes_max = std::size_t{16} << 20;  // of reads that wait; a further one goes the ordinary way
};

// Sans-I/O: takes bytes, events and the time, leaves bytes in output(). Reply and push share the connection, so a push can't
// overtake the reply it concerns, and any reply proves that every earlier push has arrived (coherence.md, Fill connections).
//
//     kClosed --connected()--> kGreeting --HELLO 3 +OK, a change source +OK, probe good--> kServing
//        ^                        | error of the last source                                 |
//        |                        v                                                          |
//        +---- disconnected() -- kRefused                          disconnected() -----------+
//
// A fill is the client's own command and "PTTL key" in one go, and where hash fields can expire "HPTTL" for those it names;
// it is answered when all replies are in. Concurrent equal reads of one key join the flight that is under way, unless
// anything happened to the key since it left (FenceTable): then they start another. At most in_flight_max are on their way;
// the others wait, joined in the same way, so that after an outage each key is read once and the node is not run over. While
// the link is not serving, reads wait hold_us for it: it is usually back in a moment, and all that would go past it is a
// herd.
//
// A probe, every third of max_staleness, is a question that only the right node answers well: HELLO (role: master), and in a
// cluster CLUSTER INFO (cluster_state:ok) and CLUSTER NODES (the node's own view of its slots). When all of it is good the
// link is proven as of the probe's sending. Slots that come to or leave the node's own view, or open, bump their epochs. One
// server instead is asked for INFO commandstats: SWAPDB signals nothing to trackers, but is counted there
// (docs/decisions/0003-swapdb.md).
//
// Which source of changes a node offers is asked of it at each connect, so also after a failover; while it is not the best
// that was configured, again every kBetterSourceUs.
//
// Bad at: a node with very many distinct keys missing at once pays two commands per fill. Threading: confined to its owner.
class FillLink {
 public:
  static constexpr std::int64_t kBetterSourceUs = 10'000'000;

  FillLink(FillLinkOptions options, std::uint16_t link, FenceTable& fences, SlotEpochs& epochs, LinkTable& links,
           FillLinkEvents& events);
  ~FillLink();
  FillLink(const FillLink&) = delete;
  FillLink& operator=(const FillLink&) = delete;

  void connected(std::int64_t now_us);
  // Consumes whole replies; returns how many bytes. Nothing if the stream is not RESP or answers nobody asked for: close it.
  [[nodiscard]] std::optional<std::size_t> received(std::string_view bytes, std::int64_t now_us);
  void disconnected();
  // It will not be connected again: whoever waits for it is told.
  void end_waiting();
  // To be called also while there is no connection: reads that have waited long enough for it are told, probes that are due
  // are sent. False: answers are awaited and nothing came for reply_timeout_us, close the connection.
  [[nodiscard]] bool tick(std::int64_t now_us);

  // Reads for `waiter`. False: not here (refused, not this node's slot, too many waiting): read the ordinary way.
  [[nodiscard]] bool submit(const FillRead& read, FillWaiter waiter, std::int64_t now_us);

  // Calls `then` once everything that the upstream had pushed when it got to this is handled, or the link is lost, which
  // makes its entries unverified. Then delivered_us() is above `since_us`. Those who ask while one is on its way share the
  // next. False: it is not serving, none of its entries is verified.
  [[nodiscard]] bool barrier(std::function<void()> then, std::int64_t since_us, std::int64_t now_us);

  [[nodiscard]] std::string& output() { return output_; }
  [[nodiscard]] FillLinkState state() const { return state_; }
  [[nodiscard]] const std::string& state_reason() const { return reason_; }
  [[nodiscard]] ChangeSource source() const { return options_.sources[source_]; }
  // Why it is not the first of the configured ones.
  [[nodiscard]] const std::string& source_reason() const { return source_reason_; }
  [[nodiscard]] std::uint16_t link() const { return link_; }
  [[nodiscard]] std::size_t reads_in_flight() const { return reads_; }
  [[nodiscard]] std::size_t reads_waiting() const { return waiting_.size(); }
  // Of the reads that wait or are on their way.
  [[nodiscard]] std::size_t held_bytes() const { return held_bytes_; }
  [[nodiscard]] std::uint64_t joined() const { return joined_; }
  [[nodiscard]] std::uint64_t invalidations() const { return invalidations_; }
  [[nodiscard]] std::uint64_t bus_gaps() const { return bus_gaps_; }

 private:
  enum class Expected : std::uint8_t {
    kGreeting,
    kSelect,
    kFieldExpiry,  // COMMAND INFO HPTTL
    kTracking,
    kSubscribe,  // answered by a push, or by an error
    kProbeHello,
    kProbeInfo,
    kProbeNodes,
    kProbeStats,
    kBarrier,
    kValue,
    kTtl,
    kFieldTtl,
  };
  enum class FieldExpiry : std::uint8_t { kNone, kPaired, kUnknown };
  struct Flight {
    std::uint64_t id = 0;  // of the key and the variant
    std::string key;
    std::string command;
    std::string variant;
    std::uint64_t hash = 0;
    std::uint16_t slot = 0;
    protocol::Caching caching = protocol::Caching::kKey;
    bool audit = false;
    std::uint32_t slot_epoch = 0;
    bool waiting = false;       // not yet sent
    std::int64_t since_us = 0;  // it has waited
    std::int64_t sent_us = 0;
    FillBasis basis;
    std::string value;         // the reply of the read, kept until the TTL's is in
    std::int64_t ttl_ms = -1;  // least of the key's and the fields' it named; -2: the key is gone; below: not known
    bool unwatched = false;
    std::vector<FillWaiter> waiters;

    [[nodiscard]] std::size_t bytes() const { return sizeof *this + key.size() + command.size() + variant.size(); }
  };
  struct Awaited {
    Expected what;
    std::int64_t sent_us;
    Flight* flight = nullptr;           // of kValue, kTtl, kFieldTtl
    std::unique_ptr<Flight> last = {};  // of the last of them
  };
  struct Barrier {
    std::function<void()> then;
    std::int64_t since_us;
  };

  // fill_link.cpp: the stream and the fills.
  void send(Expected what, std::initializer_list<std::string_view> args, std::int64_t now_us);
  [[nodiscard]] bool handle_frame(std::string_view frame, std::int64_t now_us);
  void handle_reply(Awaited awaited, std::string_view frame, std::int64_t now_us);
  [[nodiscard]] bool handle_push(std::string_view frame, std::int64_t now_us);
  void handle_invalidation(std::size_t list);
  [[nodiscard]] bool not_here(std::uint16_t slot) const { return options_.cluster && view_known_ && !owned_.test(slot); }
  [[nodiscard]] bool may_send() const { return state_ == FillLinkState::kServing && proving_; }
  [[nodiscard]] FillBasis basis_of(const Flight& flight) const;
  [[nodiscard]] bool join(Flight& flight, const FillRead& read, std::uint32_t slot_epoch, FillWaiter waiter);
  [[nodiscard]] bool outdated(const Flight& flight) const;
  void start(std::unique_ptr<Flight> flight, std::int64_t now_us);
  void send_field_ttl(const Flight& flight, std::int64_t now_us);
  void start_waiting(std::int64_t now_us);
  void expire_waiting(std::int64_t now_us);
  void forget(const Flight& flight);
  void take_ttl(Flight& flight, std::string_view frame);
  void take_field_ttl(Flight& flight, std::string_view frame);
  void finish(Flight& flight);
  [[nodiscard]] bool may_keep(const Flight& flight) const;
  void answer(const Flight& flight, FillResult result);
  void send_barrier(std::int64_t now_us);
  void end_barriers();

  // fill_link_proof.cpp: the greeting, the source of changes and the probes.
  void request_source(std::int64_t now_us);
  void subscribe(std::int64_t now_us);
  void source_refused(std::string_view error, std::int64_t now_us);
  void source_granted(std::int64_t now_us);
  void send_probe(std::int64_t now_us);
  void handle_greeting(const Awaited& awaited, std::int64_t now_us);
  void handle_probe(const Awaited& awaited, std::int64_t now_us);
  void probe_forbidden(std::string why, std::int64_t now_us);
  [[nodiscard]] bool probe_reply_good(Expected what);
  [[nodiscard]] bool own_view_good();
  [[nodiscard]] bool swaps_unchanged();
  void probe_done(std::int64_t sent_us, std::int64_t now_us);
  void subscription_refused(std::string_view error, std::int64_t now_us);
  void handle_subscription(std::string_view kind, std::string_view channel, std::int64_t now_us);
  void handle_message(std::string_view payload);
  void gap();
  void lose_proof();
  void refuse(std::string reason);
  void enter(FillLinkState state, std::string reason);

  const FillLinkOptions options_;
  const std::uint16_t link_;
  FenceTable& fences_;
  SlotEpochs& epochs_;
  LinkTable& links_;
  FillLinkEvents& events_;

  FillLinkState state_ = FillLinkState::kClosed;
  std::string reason_;
  std::string output_;
  protocol::ReplyFramer framer_;
  protocol::ReplyTree tree_;
  std::string without_pushes_;  // the reply at hand, where a push stood inside it
  std::size_t scanned_ = 0;     // bytes of the unfinished frame that the framer has seen

  std::deque<Awaited> awaited_;
  std::deque<std::unique_ptr<Flight>> waiting_;         // not yet sent
  std::unordered_map<std::uint64_t, Flight*> current_;  // by Flight::id: the flight that readers may join
  std::size_t reads_ = 0;
  std::size_t held_bytes_ = 0;
  std::uint64_t joined_ = 0;
  std::uint64_t invalidations_ = 0;
  std::vector<Barrier> barriers_;       // of the PING that is on its way
  std::vector<Barrier> next_barriers_;  // of the one after it

  std::size_t source_ = 0;  // index into options_.sources
  std::string source_reason_;
  bool source_known_ = false;
  bool probes_forbidden_ = false;        // the ACL forbids what a better source would have to be proven by
  std::optional<ChangeSource> granted_;  // the last source that was had, on an earlier connection perhaps
  std::int64_t source_asked_us_ = 0;
  FieldExpiry field_expiry_ = FieldExpiry::kUnknown;
  bool sharded_ = false;               // the node has sharded Pub/Sub
  std::vector<std::string> channels_;  // subscribed to, or about to be
  std::size_t subscriptions_left_ = 0;
  BusInbox inbox_;
  std::int64_t answered_sent_us_ = 0;  // the sending of the newest request that was answered
  std::uint64_t bus_gaps_ = 0;

  bool probe_good_ = false;  // of the probe whose replies are coming in
  bool proving_ = false;     // the last whole probe was good
  std::int64_t probe_sent_us_ = 0;
  std::int64_t last_received_us_ = 0;
  bool view_known_ = false;
  std::bitset<protocol::kSlotCount> owned_;
  std::bitset<protocol::kSlotCount> open_;
  std::optional<std::uint64_t> swaps_seen_;
  std::uint64_t stats_calls_seen_ = 0;
  std::string resets_seen_;
};

}  // namespace nearcached::tiers::coherence
