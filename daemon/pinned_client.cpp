#include "daemon/pinned_client.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "daemon/session.hpp"
#include "daemon/worker.hpp"
#include "protocol/key_slot.hpp"
#include "protocol/reply_tree.hpp"
#include "protocol/writer.hpp"
#include "tiers/io/clock.hpp"
#include "tiers/upstream/redirect.hpp"

namespace nearcached::daemon {

using tiers::upstream::Endpoint;
using tiers::upstream::kNoSlot;
using tiers::upstream::parse_redirect;
using tiers::upstream::PinnedConnection;
using tiers::upstream::Redirect;
using tiers::upstream::RedirectKind;

namespace {

constexpr std::uint32_t kMovesMax = 5;
// What an error line says of where else to go; nothing: it is the client's business.
std::optional<Redirect> redirect_of(std::string_view line, const Endpoint& asked, std::uint32_t slot) {
  if (!line.starts_with('-') || line.size() < 3) return std::nullopt;
  return parse_redirect(line.substr(1, line.size() - 3), asked, slot);
}

// What makes "the last write of this connection", which is what WAIT waits for, one after all that the node has executed:
// before 7.2 any command does, since then one that is replicated (and changes nothing).
std::string offset_mark(const tiers::upstream::Topology& topology, const Endpoint& node) {
  std::string mark;
  const std::string& version = topology.server_version;
  if (version.starts_with("6.") || version.starts_with("7.0.")) {
    protocol::append_command(mark, {"PING"});
  } else if (!topology.cluster) {
    protocol::append_command(mark, {"PUBLISH", "nearcached:wait", ""});
  } else {
    constexpr int kTriesMax = 100'000;
    std::string channel;
    for (int i = 0; i < kTriesMax; ++i) {
      channel = "nearcached:wait:" + std::to_string(i);
      const Endpoint* owner = topology.node_of(protocol::key_slot(channel));
      if (owner != nullptr && *owner == node) break;
    }
    protocol::append_command(mark, {"SPUBLISH", channel, ""});
  }
  return mark;
}

}  // namespace

PinnedClient::PinnedClient(Session& session, Worker& worker) : session_(session), worker_(worker) {}

PinnedClient::~PinnedClient() {
  release(false);
  end_tracking();
  release_subscriptions();
}

bool PinnedClient::awaits_reply() const {
  return std::any_of(connections_.begin(), connections_.end(),
                     [](const Connection& connection) { return !connection->idle(); });
}

bool PinnedClient::at_ease() const {
  return !busy_ && !transaction_ && !tracking_ && !blocked_ && !subscribed() && !awaits_reply();
}

PinnedClient::Taken PinnedClient::wait_until_empty() {
  session_.stall_ = Session::Stall::kUntilEmpty;
  return Taken::kNotNow;
}

PinnedClient::Taken PinnedClient::dispatch(const Command& command, const Args& args, std::string_view raw) {
  if (busy_) return wait_until_empty();
  const std::string_view name = command.name;
  const bool resp2 = session_.version_ == protocol::RespVersion::kResp2;
  if (subscribed() && resp2) {
    if (const Taken taken = in_subscriber_mode(command, args); taken != Taken::kNotMine) return taken;
  }
  if (tracking_) {
    if (const Taken taken = pass_through(command, args, raw); taken != Taken::kNotMine) return taken;
  }
  if (queueing()) return queue(command, args, raw);
  // Behind WATCH and the like, on another connection.
  if (!protocol::needs_own_connection(command, args)) return awaits_reply() ? wait_until_empty() : Taken::kNotMine;
  if (!command.arity_fits(args.size())) {
    return name == "exec" ? abort_exec("wrong number of arguments for 'exec' command") : Taken::kNotMine;
  }
  if (name == "multi") return multi();
  if (name == "watch") return watch(command, args, raw);
  if (name == "unwatch") return unwatch();
  if (name == "exec" || name == "discard") {
    session_.answer_error(name == "exec" ? "ERR EXEC without MULTI" : "ERR DISCARD without MULTI");
    return Taken::kYes;
  }
  if (name == "subscribe" || name == "psubscribe" || name == "ssubscribe") return subscribe(command, args, raw);
  if (name == "unsubscribe" || name == "punsubscribe" || name == "sunsubscribe") return unsubscribe(command, args, raw);
  if (name == "wait" || name == "waitaof") return wait(raw);
  if (name == "client|tracking") return begin_tracking(args, raw);
  if (name == "client|caching") {
    session_.answer_error(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled");
    return Taken::kYes;
  }
  if (command.has(protocol::kFlagBlocking)) return block(command, args, raw);
  return Taken::kNotMine;
}

const Endpoint* PinnedClient::node_of(std::uint32_t slot) {
  const auto& topology = *worker_.router().topology();
  const Endpoint* node = slot == kNoSlot ? &topology.primaries[session_.id_ % topology.primaries.size()]
                                         : topology.node_of(static_cast<std::uint16_t>(slot));
  if (node == nullptr) session_.answer_error("CLUSTERDOWN Hash slot not served");
  return node;
}

PinnedConnection* PinnedClient::find(const Endpoint& node, bool besides_watch) const {
  // The connection that watches was there first.
  bool skip = besides_watch && watching() != 0 && !transaction_->lost && node == transaction_->node;
  for (const Connection& connection : connections_) {
    if (!(connection->endpoint() == node) || connection->broken()) continue;
    if (!std::exchange(skip, false)) return connection.get();
  }
  return nullptr;
}

PinnedClient::Have PinnedClient::have(const Endpoint& node, PinnedConnection*& connection, bool besides_watch) {
  connection = find(node, besides_watch);
  if (connection != nullptr) return Have::kYes;
  if (!refusal_.empty()) {
    session_.answer_error(std::exchange(refusal_, {}));
    return Have::kFailed;
  }
  session_.stall_ = Session::Stall::kAsked;
  acquire(node, [this] {
    if (session_.stall_ == Session::Stall::kAsked) session_.stall_ = Session::Stall::kNone;
    session_.touched();
  });
  return Have::kNotYet;
}

// One at a time. `then` finds the connection among connections_, or refusal_.
void PinnedClient::acquire(const Endpoint& node, std::function<void()> then) {
  ++session_.outside_;
  ticket_ = worker_.pinned().acquire(*this, session_.identity_, session_.version_, node,
                                     [this, then = std::move(then)](Connection connection, std::string_view error) {
                                       --session_.outside_;
                                       ticket_ = 0;
                                       if (connection) {
                                         connections_.push_back(std::move(connection));
                                       } else {
                                         refusal_ = error;
                                       }
                                       then();
                                     });
}

void PinnedClient::release(bool clean) {
  for (Connection& connection : connections_) {
    const bool reusable = clean && connection->idle() && !connection->broken();
    worker_.pinned().give_back(std::move(connection), reusable);
  }
  connections_.clear();
}

// The connection whose node watches keys stays: its watch is worth nothing elsewhere.
void PinnedClient::release_unwatched() {
  Connection kept;
  PinnedConnection* watching_one = watching() != 0 ? find(transaction_->node) : nullptr;
  for (Connection& connection : connections_) {
    if (connection.get() == watching_one) kept = std::move(connection);
  }
  std::erase_if(connections_, [](const Connection& connection) { return !connection; });
  release(true);
  if (kept) connections_.push_back(std::move(kept));
}

// What kept the client waiting is over.
void PinnedClient::idle_again() {
  busy_ = blocked_ = false;
  session_.stream_.mind_hangup(0);
  session_.touched();
}

void PinnedClient::client_gone() {
  if (ticket_ != 0) {
    worker_.pinned().cancel(std::exchange(ticket_, 0));
    --session_.outside_;
  }
  release_subscriptions();
  const bool tracked_owed = tracking_ && !tracking_->sent.empty();
  // What may be a write is waited for: its keys stay fenced until it is answered.
  if (tracked_owed && !blocked_) return;
  end_tracking();
  // An EXEC that is on its way is waited for: its keys stay fenced until it is answered.
  if (busy_ && !blocked_ && connections_.size() == 1 && transaction_) return;
  // While a connection of ours owes replies (to WATCH, SELECT, what was queued) all open places are its.
  const bool owed = tracked_owed || std::any_of(connections_.begin(), connections_.end(),
                                                [](const Connection& connection) { return !connection->idle(); });
  end_transaction(false);
  std::string().swap(blocking_bytes_);
  const bool was_busy = std::exchange(busy_, false);
  blocked_ = false;
  if (!was_busy && !owed) return;
  while (!session_.replies_.empty()) session_.finish(session_.replies_.first());
}

void PinnedClient::reset() {
  release(false);
  transaction_.reset();
  end_tracking();
  release_subscriptions();
}

void PinnedClient::on_reply(std::uint64_t token, std::string_view bytes, bool last) {
  if (token == kOurOwn) {
    if (bytes.starts_with('-') && transaction_) transaction_->spoiled |= !transaction_->restart;
    return;
  }
  if (is_tracked(token)) {
    on_tracked_reply(token, bytes, last);
  } else if (waits_left_ != 0) {
    on_wait_reply(token, bytes, last);
  } else if (blocked_ && token == blocking_token_) {
    on_blocking_reply(token, bytes, last);
  } else if (transaction_ && busy_ && token == make_token(transaction_->exec, 0)) {
    on_exec_reply(token, bytes, last);
  } else {
    line_.append(bytes);
    if (last) on_queued_reply(token, std::exchange(line_, {}));
  }
}

void PinnedClient::on_failure(std::uint64_t token, std::string_view error, bool broken) {
  if (token == kOurOwn) return;
  if (is_tracked(token)) {
    tracking_->sent.pop_front();
    if (blocked_) idle_again();
    session_.on_failure(token, error, broken);
    return;
  }
  if (transaction_ && !busy_) {
    // Nothing has been executed.
    transaction_->lost |= transaction_->watched != 0;
    transaction_->restart = true;
    transaction_->begun = false;
    session_.on_reply(token, transaction_->queueing ? "+QUEUED\r\n" : "+OK\r\n", true);
    return;
  }
  if (waits_left_ != 0) {
    wait_reply_.clear();
    protocol::append_error(wait_reply_, error);
    if (--waits_left_ == 0) end_wait();
    return;
  }
  const std::uint64_t number = token_number(token);
  if (transaction_ && !transaction_->ending.empty()) {
    const std::string reply = std::exchange(transaction_->ending, {});
    end_transaction(false);
    idle_again();
    session_.on_reply(token, reply, true);
    return;
  }
  if (blocked_ && blocking_announced_) session_.on_outcome_unknown(token, blocking_bytes_);
  if (transaction_) {
    for (const Queued& queued : transaction_->queued) {
      if (queued.announced) session_.on_outcome_unknown(token, queued.bytes);
    }
  }
  session_.replies_.at(number).unpublished = 0;
  end_transaction(false);
  idle_again();
  session_.on_failure(token, error, broken);
}

void PinnedClient::on_lost(PinnedConnection& connection, std::string_view why) {
  if (subscriptions_) {
    for (const Connection& own : subscriptions_->connections) {
      if (own.get() != &connection) continue;
      session_.shut("its subscription's upstream connection broke: " + std::string(why));
      return;
    }
  }
  if (tracking_ && tracking_->connection.get() == &connection) {
    session_.shut("its tracking connection broke: " + std::string(why));
    return;
  }
  if (!transaction_) return;
  transaction_->lost |= transaction_->watched != 0;
  transaction_->restart |= transaction_->begun;
  transaction_->begun = false;
}

// --- Blocking commands ------------------------------------------------------------------------------------------------

PinnedClient::Taken PinnedClient::block(const Command& command, const Args& args, std::string_view raw) {
  if (!session_.replies_.empty()) return wait_until_empty();
  std::vector<std::uint32_t>& positions = worker_.positions();
  if (!protocol::extract_keys(command, args, positions)) positions.clear();
  blocking_slot_ = positions.empty() ? kNoSlot : std::uint32_t{session_.slot_of(args[positions[0]])};
  const Endpoint* node = node_of(blocking_slot_);
  if (node == nullptr) return Taken::kYes;
  PinnedConnection* connection = nullptr;
  const Have got = have(*node, connection);
  if (got != Have::kYes) return got == Have::kFailed ? Taken::kYes : Taken::kNotNow;
  const std::uint64_t number = session_.open_place();
  auto hashes = std::make_unique<std::vector<std::uint64_t>>();
  for (const std::uint32_t at : positions) hashes->push_back(tiers::l1::hash_key(args[at]));
  std::sort(hashes->begin(), hashes->end());
  hashes->erase(std::unique(hashes->begin(), hashes->end()), hashes->end());
  session_.replies_.at(number).hashes = std::move(hashes);
  blocking_token_ = make_token(number, 0);
  blocking_bytes_ = raw;
  blocking_announced_ = session_.shared_.publishes && protocol::may_write(command);
  blocking_fenced_ = false;
  blocking_moves_ = 0;
  busy_ = blocked_ = true;
  session_.stream_.mind_hangup(session_.shared_.settings.limits.output_bytes);
  send_blocking(*connection, false);
  return Taken::kYes;
}

void PinnedClient::send_blocking(PinnedConnection& connection, bool asking) {
  if (asking) connection.send(kOurOwn, "*1\r\n$6\r\nASKING\r\n", 0);
  connection.send(blocking_token_, blocking_bytes_, 0);
}

void PinnedClient::on_blocking_reply(std::uint64_t token, std::string_view bytes, bool last) {
  std::string whole;
  if (!line_.empty() || bytes.starts_with('-')) {
    line_.append(bytes);
    if (!last) return;
    whole = std::exchange(line_, {});
    bytes = whole;
    const auto redirect = redirect_of(whole, connections_.front()->endpoint(), blocking_slot_);
    if (redirect && redirect->kind != RedirectKind::kWait && ++blocking_moves_ <= kMovesMax) {
      worker_.router().request_refresh();
      move_blocking(redirect->target, redirect->kind == RedirectKind::kAsk);
      return;
    }
  }
  const std::uint64_t number = token_number(token);
  if (!std::exchange(blocking_fenced_, true)) {
    session_.begin_pinned_write(session_.replies_.at(number), Session::Touch::kWrite);
    session_.replies_.at(number).unpublished = blocking_announced_ && !bytes.starts_with('-') ? 1 : 0;
  }
  const bool announced = session_.replies_.at(number).unpublished != 0;
  if (last) {
    release_unwatched();
    idle_again();
  }
  session_.on_reply(token, bytes, last);
  if (last && announced) announce(number, blocking_bytes_, blocking_slot_);
}

void PinnedClient::move_blocking(const Endpoint& node, bool asking) {
  // Not from inside a call of the connection that is to go.
  worker_.loop().post([this, node, asking, session = &session_, alive = std::weak_ptr<bool>(session_.alive_)] {
    if (alive.expired() || !blocked_) return;
    release_unwatched();
    acquire(node, [this, node, asking] {
      PinnedConnection* connection = find(node);
      if (connection != nullptr) {
        send_blocking(*connection, asking);
      } else {
        on_failure(blocking_token_, std::exchange(refusal_, {}), false);
      }
    });
  });
}

// The write is done; the others are told over the shared connection to its node.
void PinnedClient::announce(std::uint64_t number, std::string_view bytes, std::uint32_t slot) {
  tiers::upstream::RequestMeta meta;
  meta.sink = &session_;
  meta.token = make_token(number, 0);
  meta.slot = slot;
  meta.affinity = static_cast<std::uint32_t>(session_.id_);
  meta.write = meta.announce = meta.only_announce = true;
  worker_.router().send(*session_.lane_, meta, bytes, tiers::io::boot_us());
}

// --- WAIT -------------------------------------------------------------------------------------------------------------

PinnedClient::Taken PinnedClient::wait(std::string_view raw) {
  if (!session_.replies_.empty()) return wait_until_empty();
  const auto& topology = *worker_.router().topology();
  std::vector<Endpoint> nodes;
  for (std::size_t i = 0; i < topology.primaries.size(); ++i) {
    if (session_.wrote_to(i)) nodes.push_back(topology.primaries[i]);
  }
  if (nodes.empty()) nodes.push_back(topology.primaries[session_.id_ % topology.primaries.size()]);
  for (const Endpoint& node : nodes) {
    PinnedConnection* connection = nullptr;
    const Have got = have(node, connection);
    if (got == Have::kFailed) release_unwatched();
    if (got != Have::kYes) return got == Have::kFailed ? Taken::kYes : Taken::kNotNow;
  }
  const std::uint64_t number = session_.open_place();
  wait_token_ = make_token(number, 0);
  wait_reply_.clear();
  waits_left_ = nodes.size();
  busy_ = blocked_ = true;
  session_.stream_.mind_hangup(session_.shared_.settings.limits.output_bytes);
  for (const Endpoint& node : nodes) {
    PinnedConnection* connection = find(node);
    connection->send(kOurOwn, offset_mark(topology, node), 0);
    connection->send(wait_token_, raw, 0);
  }
  return Taken::kYes;
}

void PinnedClient::on_wait_reply(std::uint64_t, std::string_view bytes, bool last) {
  line_.append(bytes);
  if (!last) return;
  const std::string reply = std::exchange(line_, {});
  const auto numbers = [](std::string_view text) {
    std::vector<std::int64_t> result;
    protocol::ReplyTree tree;
    if (!tree.parse(text)) return result;
    for (const protocol::ReplyNode& node : tree.nodes()) {
      if (node.type == protocol::ReplyType::kInteger) result.push_back(node.integer());
    }
    return result;
  };
  if (wait_reply_.empty() || reply.starts_with('-')) {
    wait_reply_ = reply;
  } else if (!wait_reply_.starts_with('-')) {
    std::vector<std::int64_t> least = numbers(wait_reply_);
    const std::vector<std::int64_t> more = numbers(reply);
    for (std::size_t i = 0; i < least.size() && i < more.size(); ++i) least[i] = std::min(least[i], more[i]);
    wait_reply_.clear();
    if (reply.starts_with('*')) protocol::append_header(wait_reply_, '*', static_cast<std::int64_t>(least.size()));
    for (const std::int64_t number : least) protocol::append_integer(wait_reply_, number);
  }
  if (--waits_left_ == 0) end_wait();
}

void PinnedClient::end_wait() {
  release_unwatched();
  idle_again();
  const std::string reply = std::exchange(wait_reply_, {});
  session_.on_reply(wait_token_, reply, true);
}

}  // namespace nearcached::daemon
