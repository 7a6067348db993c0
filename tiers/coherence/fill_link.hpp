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

#include "protocol/reply_framer.hpp"
#include "protocol/reply_tree.hpp"
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
  // False: this connection can't answer (it broke, the node sends elsewhere): the waiters' reads go the ordinary way.
  bool answered = false;
  // May be kept, if `basis` still holds at the moment of installation.
  bool cacheable = false;
  std::string_view reply;          // RESP3 bytes, valid during the call
  std::int64_t expires_at_us = 0;  // by the upstream's TTL, CLOCK_BOOTTIME; 0: it has none
  std::int64_t sent_us = 0;
  FillBasis basis;
  std::span<const FillWaiter> waiters;
};

enum class FillLinkState : std::uint8_t {
  kClosed,    // no connection
  kGreeting,  // HELLO, CLIENT TRACKING and the first probe are on their way
  kServing,   // fills may be submitted
  kRefused,   // the upstream can't or won't track (old version, ACL, not a primary): state_reason() says why
};

// Where the machine reports to. Called from within received(), disconnected() and tick().
class FillLinkEvents {
 public:
  virtual void on_filled(const FillResult& result) = 0;
  virtual void on_invalidated(std::string_view key) = 0;
  virtual void on_invalidated_all() = 0;
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
  std::int64_t max_staleness_us = 1'000'000;
  std::int64_t reply_timeout_us = 1'000'000;
  std::size_t reads_max = 20'000;   // reads in flight; a further one goes the ordinary way
  std::size_t joined_max = 10'000;  // waiters of one read
};

// Sans-I/O: takes bytes, events and the time, leaves bytes in output(). Reply and push share the connection, so a push can't
// overtake the reply it concerns, and any reply proves that every earlier push has arrived (coherence.md, Fill connections).
//
//     kClosed --connected()--> kGreeting --HELLO 3 +OK, TRACKING +OK, first probe good--> kServing
//        ^                        | error                                                    |
//        |                        v                                                          |
//        +---- disconnected() -- kRefused                          disconnected() -----------+
//
// A fill is "GET key" and "PTTL key" in one go; it is answered when both replies are in. Concurrent reads of one key join
// the flight that is under way, unless anything happened to the key since it left (FenceTable): then they start another.
//
// A probe, every third of max_staleness, is a question that only the right node answers well: HELLO (role: master), and in a
// cluster CLUSTER INFO (cluster_state:ok) and CLUSTER NODES (the node's own view of its slots). When all of it is good the
// link is verified until the probe's sending plus max_staleness. Slots that come to or leave the node's own view bump their
// epochs. One server instead is asked for INFO commandstats: SWAPDB signals nothing to trackers, but is counted there
// (docs/decisions/0003-swapdb.md).
//
// Bad at: a node with very many distinct keys missing at once pays two commands per fill. Threading: confined to its owner.
class FillLink {
 public:
  FillLink(FillLinkOptions options, std::uint16_t link, FenceTable& fences, SlotEpochs& epochs, LinkTable& links,
           FillLinkEvents& events);
  ~FillLink();
  FillLink(const FillLink&) = delete;
  FillLink& operator=(const FillLink&) = delete;

  void connected(std::int64_t now_us);
  // Consumes whole replies; returns how many bytes. Nothing if the stream is not RESP or answers nobody asked for: close it.
  [[nodiscard]] std::optional<std::size_t> received(std::string_view bytes, std::int64_t now_us);
  void disconnected();
  // Sends the probe if it is due. False: answers are awaited and nothing came for reply_timeout_us, close the connection.
  [[nodiscard]] bool tick(std::int64_t now_us);

  // Reads `key` for `waiter`. False: not here (not serving, not this node's slot, too many in flight): read the ordinary
  // way.
  [[nodiscard]] bool submit(std::string_view key, std::uint64_t hash, std::uint16_t slot, FillWaiter waiter,
                            std::int64_t now_us);

  // Calls `then` once everything that the upstream had pushed when it got to this is handled, or the link is lost, which
  // makes its entries dead. False: it is not serving, none of its entries lives.
  [[nodiscard]] bool barrier(std::function<void()> then, std::int64_t now_us);

  [[nodiscard]] std::string& output() { return output_; }
  [[nodiscard]] FillLinkState state() const { return state_; }
  [[nodiscard]] const std::string& state_reason() const { return reason_; }
  [[nodiscard]] std::uint16_t link() const { return link_; }
  [[nodiscard]] std::size_t reads_in_flight() const { return reads_; }
  [[nodiscard]] std::uint64_t joined() const { return joined_; }
  [[nodiscard]] std::uint64_t invalidations() const { return invalidations_; }

 private:
  enum class Expected : std::uint8_t {
    kGreeting,
    kSelect,
    kTracking,
    kProbeHello,
    kProbeInfo,
    kProbeNodes,
    kProbeStats,
    kBarrier,
    kValue,
    kTtl,
  };
  struct Flight;
  struct Awaited {
    Expected what;
    std::int64_t sent_us;
    std::unique_ptr<Flight> flight;  // of kTtl, the second of the pair; kValue finds it behind itself
    std::function<void()> then;      // of kBarrier
  };

  void send(Expected what, std::initializer_list<std::string_view> args, std::int64_t now_us);
  void send_probe(std::int64_t now_us);
  [[nodiscard]] bool handle_frame(std::string_view frame, std::int64_t now_us);
  [[nodiscard]] bool handle_push(std::string_view frame);
  void handle_reply(Awaited awaited, std::string_view frame);
  void handle_greeting(const Awaited& awaited);
  void handle_probe(const Awaited& awaited);
  [[nodiscard]] bool probe_reply_good(Expected what);
  [[nodiscard]] bool own_view_good();
  [[nodiscard]] bool swaps_unchanged();
  void probe_done(std::int64_t sent_us);
  void finish(Flight& flight, std::int64_t ttl_ms, bool ttl_known);
  void answer(const Flight& flight, FillResult result);
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
  std::size_t scanned_ = 0;  // bytes of the unfinished frame that the framer has seen

  std::deque<Awaited> awaited_;
  std::unordered_map<std::uint64_t, Flight*> current_;  // by hash: the flight that readers may join
  std::size_t reads_ = 0;
  std::uint64_t joined_ = 0;
  std::uint64_t invalidations_ = 0;

  bool probe_good_ = false;  // of the probe whose replies are coming in
  bool proving_ = false;     // the last whole probe was good
  std::int64_t probe_sent_us_ = 0;
  std::int64_t last_received_us_ = 0;
  bool view_known_ = false;
  std::bitset<protocol::kSlotCount> owned_;
  std::optional<std::uint64_t> swaps_seen_;
  std::uint64_t stats_calls_seen_ = 0;
  std::string resets_seen_;
};

}  // namespace nearcached::tiers::coherence
