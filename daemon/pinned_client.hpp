// The part of a client that needs upstream connections of its own: transactions, blocking commands, WAIT, subscriptions.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/command_table.hpp"
#include "tiers/upstream/pinned_connection.hpp"
#include "tiers/upstream/topology.hpp"

namespace nearcached::daemon {

class Session;
class Worker;

// Made when a client first asks for something that can't travel on a shared connection. What it sends takes places in the
// session's queue of replies like everything else, so that fences, barriers and publication are the session's.
//
// Order: what goes over another connection than what came before waits until all of that is answered. A transaction's
// queued commands follow each other without waiting.
//
//     MULTI       answered here; sent with the first queued command, whose keys say which node it is
//     WATCH       to the node of its keys. Until EXEC, DISCARD or UNWATCH no read is answered from L1; the client's other
//                 commands travel the ordinary way, behind WATCH's answer, which is all that a watch asks for
//     EXEC        all keys of what was queued are fenced from its dispatch to its reply
//     blocking    the keys are fenced at the reply only; a client that goes takes its connection along, so that nothing is
//                 popped for nobody
//     WAIT        at every node that this client wrote to, the smallest answer
//     TRACKING    one connection for all of the client's commands; the upstream's invalidations are passed on
//     SUBSCRIBE   one connection for channels and patterns, one per node for shard channels of a cluster
//
// Nothing of a transaction is executed before EXEC: when its node sends it elsewhere (MOVED) or the connection breaks, it is
// begun anew from its queued commands; if keys were watched nobody knows whether they changed, and EXEC answers null, which
// is what clients try again on. An EXEC or blocking command that was lost on its way is answered with "may have taken
// effect". A subscription or a tracking connection that is lost closes the client: it could not
// know what it missed.
//
// Bounds: queued commands count against the session's output limit; connections against upstream.pinned_pool.
// Confined to the session's worker.
class PinnedClient final : public tiers::upstream::PinnedOwner {
 public:
  using Args = std::vector<std::string_view>;
  using Command = protocol::Command;

  enum class Taken : std::uint8_t {
    kYes,
    kNotNow,   // it comes again when the session may read on
    kNotMine,  // the ordinary ways
  };

  PinnedClient(Session& session, Worker& worker);
  ~PinnedClient();
  PinnedClient(const PinnedClient&) = delete;
  PinnedClient& operator=(const PinnedClient&) = delete;

  [[nodiscard]] Taken dispatch(const Command& command, const Args& args, std::string_view raw);
  // Reads must not be answered from L1.
  [[nodiscard]] bool past_l1() const { return transaction_ != nullptr; }
  // The client has gone or goes; what it alone would wait for is given up.
  void client_gone();
  // SELECT while keys are watched: on their connection, which answers the reply of that number. False: there is none.
  [[nodiscard]] bool select(std::uint64_t number, std::uint32_t database);
  // The client has become another user or speaks another version: what it watches is watched by somebody else.
  void forget_watch();
  // RESET: no transaction, no subscriptions.
  void reset();
  // The client waits for something that may never come: it is not idle, and its going must be seen.
  [[nodiscard]] bool waits() const { return blocked_ || subscribed(); }
  [[nodiscard]] bool blocked() const { return blocked_; }
  // A command behind MULTI that is not queued: EXEC will abort.
  void refuse_queued(std::string_view error);
  // Nothing of what it is made for is under way: the client is like any other.
  [[nodiscard]] bool at_ease() const;
  [[nodiscard]] bool queueing() const { return (transaction_ && transaction_->queueing) || (tracking_ && tracking_->multi); }
  [[nodiscard]] std::size_t watching() const { return transaction_ ? transaction_->watched : 0; }
  [[nodiscard]] std::size_t channels() const { return subscriptions_ ? subscriptions_->names[kChannels].size() : 0; }
  [[nodiscard]] std::size_t patterns() const { return subscriptions_ ? subscriptions_->names[kPatterns].size() : 0; }
  [[nodiscard]] std::size_t shard_channels() const { return subscriptions_ ? subscriptions_->names[kShards].size() : 0; }
  [[nodiscard]] std::size_t queued() const { return transaction_ ? transaction_->queued.size() : 0; }

 private:
  static constexpr std::uint64_t kOurOwn = ~std::uint64_t{0};  // token of a request whose reply is nobody's

  using Connection = std::unique_ptr<tiers::upstream::PinnedConnection>;
  enum class Have : std::uint8_t { kYes, kNotYet, kFailed };
  enum Kind : std::uint8_t { kChannels, kPatterns, kShards, kKinds };

  struct Queued {
    std::string bytes;
    std::uint32_t slot = 0;
    bool announced = false;  // a write of which others are told
  };
  // The keys of what has been queued, or blocks: they are fenced when it is carried out.
  struct Touched {
    bool writes_all = false;
    bool writes_unknown = false;
    std::vector<std::uint64_t> hashes;
  };
  enum class Tracked : std::uint8_t { kOther, kOn, kOff, kBlocking };
  struct Tracking {
    struct Sent {
      std::uint64_t token = 0;
      Tracked what = Tracked::kOther;
    };
    Connection connection;
    std::deque<Sent> sent;  // unanswered
    bool on = false;
    bool ended = false;    // it is off again, or never came on
    bool multi = false;    // behind MULTI
    bool watches = false;  // keys, perhaps
    bool fenced = false;   // of a blocking command's reply that has begun
    Touched touched;       // by what is queued or blocks
  };
  struct Transaction {
    bool queueing = false;  // behind MULTI
    bool begun = false;     // MULTI has been sent
    bool spoiled = false;   // a command was refused here: EXEC aborts
    bool lost = false;      // nobody knows any more whether the watched keys changed
    bool restart = false;   // to be begun anew, elsewhere
    bool left = false;      // the node it was begun at
    bool selected = false;  // the connection is in another database than it came in
    std::uint32_t slot = 0xffffffff;
    std::uint32_t restarts = 0;
    std::size_t watched = 0;  // keys
    tiers::upstream::Endpoint node;
    std::vector<Queued> queued;
    Touched touched;
    std::uint64_t exec = 0;  // place of EXEC or of what ends it otherwise, if busy_
    std::string ending;      // the answer, if it is not the upstream's
  };
  struct Subscriptions {
    std::map<std::string, tiers::upstream::PinnedConnection*, std::less<>> names[kKinds];
    std::vector<Connection> connections;
    std::size_t confirmations = 0;  // awaited
    std::uint64_t number = 0;       // place of the command that awaits them
    std::vector<std::string> added[kKinds];
    std::size_t unheard = 0;  // confirmations that are on their way and not for the client
  };

  // tiers::upstream::PinnedOwner
  void on_reply(std::uint64_t token, std::string_view bytes, bool last) override;
  void on_failure(std::uint64_t token, std::string_view error, bool broken) override;
  void on_rerouted(std::uint64_t) override {}
  void on_push(tiers::upstream::PinnedConnection& from, std::string_view frame) override;
  void on_lost(tiers::upstream::PinnedConnection& connection, std::string_view why) override;

  // pinned_client.cpp
  [[nodiscard]] Taken wait_until_empty();
  [[nodiscard]] bool awaits_reply() const;
  // A connection to that node. kNotYet: the session is called again. kFailed: the client has been told.
  // `besides_watch`: another one than that which watches keys.
  [[nodiscard]] Have have(const tiers::upstream::Endpoint& node, tiers::upstream::PinnedConnection*& connection,
                          bool besides_watch = false);
  void acquire(const tiers::upstream::Endpoint& node, std::function<void()> then);
  [[nodiscard]] tiers::upstream::PinnedConnection* find(const tiers::upstream::Endpoint& node,
                                                        bool besides_watch = false) const;
  // nullptr: no node serves the slot; the client has been told.
  [[nodiscard]] const tiers::upstream::Endpoint* node_of(std::uint32_t slot);
  void release(bool clean);
  void release_unwatched();
  void idle_again();
  [[nodiscard]] Taken block(const Command& command, const Args& args, std::string_view raw);
  void send_blocking(tiers::upstream::PinnedConnection& connection, bool asking);
  void on_blocking_reply(std::uint64_t token, std::string_view bytes, bool last);
  void move_blocking(const tiers::upstream::Endpoint& node, bool asking);
  void announce(std::uint64_t number, std::string_view bytes, std::uint32_t slot);
  [[nodiscard]] Taken wait(std::string_view raw);
  void on_wait_reply(std::uint64_t token, std::string_view bytes, bool last);
  void end_wait();

  // pinned_transaction.cpp
  [[nodiscard]] Taken multi();
  [[nodiscard]] Taken watch(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] Taken unwatch();
  [[nodiscard]] Taken discard();
  [[nodiscard]] Taken queue(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] Taken enqueue(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] Taken exec();
  [[nodiscard]] Taken abort_exec(std::string_view why);
  void send_exec();
  void begin_on(tiers::upstream::PinnedConnection& connection);
  [[nodiscard]] static bool not_in_transactions(const Command& command);
  void note_keys(Touched& touched, const Command& command, const Args& args);
  void fence(Touched& touched, std::uint64_t number);
  void on_queued_reply(std::uint64_t token, std::string_view line);
  void on_exec_reply(std::uint64_t token, std::string_view bytes, bool last);
  void restart_exec();
  void fence_exec(std::uint64_t number);
  [[nodiscard]] std::string_view null_reply() const;
  void end_with(std::string_view reply);
  void end_transaction(bool clean);

  // pinned_tracking.cpp
  [[nodiscard]] Taken begin_tracking(const Args& args, std::string_view raw);
  [[nodiscard]] Taken pass_through(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] Taken refuse_tracked(std::string_view name);
  void send_tracked(Tracked what, std::string_view raw, std::uint64_t number);
  [[nodiscard]] bool is_tracked(std::uint64_t token) const;
  void on_tracked_reply(std::uint64_t token, std::string_view bytes, bool last);
  void end_tracking();

  // pinned_subscription.cpp
  [[nodiscard]] bool subscribed() const { return subscriptions_ != nullptr; }
  [[nodiscard]] Taken in_subscriber_mode(const Command& command, const Args& args);
  [[nodiscard]] Taken subscribe(const Command& command, const Args& args, std::string_view raw);
  [[nodiscard]] Taken unsubscribe(const Command& command, const Args& args, std::string_view raw);
  void confirm_here(Kind kind, const std::vector<std::string_view>& names);
  [[nodiscard]] Have have_subscription(const tiers::upstream::Endpoint& node, tiers::upstream::PinnedConnection*& to);
  [[nodiscard]] const tiers::upstream::Endpoint* subscription_node(Kind kind, std::uint32_t slot);
  void await_confirmations(std::size_t count);
  void unsubscribe_shards(const std::vector<std::string_view>& named);
  bool forget(Kind kind, std::string_view name);
  void forget_bytes(std::string_view name);
  [[nodiscard]] bool nothing_subscribed() const { return channels() + patterns() + shard_channels() == 0; }
  void on_confirmation(std::string_view frame, bool error, bool shard);
  void note_unasked(std::string_view frame);
  [[nodiscard]] std::string_view in_clients_version(std::string_view frame);
  void release_subscriptions();

  Session& session_;
  Worker& worker_;
  std::vector<Connection> connections_;  // of a transaction, a blocking command, WAIT
  std::uint64_t ticket_ = 0;             // of a connection that is awaited, 0: none
  std::string refusal_;                  // why there is none
  bool busy_ = false;                    // what follows waits for the reply
  std::string line_;                     // of an error reply, as far as it is here

  bool blocked_ = false;
  std::string blocking_bytes_;
  std::uint64_t blocking_token_ = 0;
  std::uint32_t blocking_moves_ = 0;
  bool blocking_announced_ = false;
  bool blocking_fenced_ = false;
  std::uint32_t blocking_slot_ = 0;

  std::size_t waits_left_ = 0;
  std::string wait_reply_;  // the smallest so far, or an error
  std::uint64_t wait_token_ = 0;

  std::unique_ptr<Transaction> transaction_;
  std::unique_ptr<Subscriptions> subscriptions_;
  std::unique_ptr<Tracking> tracking_;
  std::string reframed_;  // what in_clients_version() returned last
};

}  // namespace nearcached::daemon
