// SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE, and what ends them.
#include <algorithm>
#include <utility>

#include "daemon/pinned_client.hpp"
#include "daemon/session.hpp"
#include "daemon/worker.hpp"
#include "protocol/reply_tree.hpp"
#include "protocol/writer.hpp"

namespace nearcached::daemon {

using protocol::RespVersion;
using tiers::upstream::Endpoint;
using tiers::upstream::kNoSlot;
using tiers::upstream::PinnedConnection;

namespace {

// "message", "subscribe" ...: the first element of a subscriber's frame.
std::string_view verb_of(std::string_view frame) {
  const std::size_t header = frame.find("\r\n");
  const std::size_t length = header == std::string_view::npos ? header : frame.find("\r\n", header + 2);
  if (length == std::string_view::npos) return {};
  const std::size_t end = frame.find("\r\n", length + 2);
  return frame.substr(length + 2, end - length - 2);
}

template <class Out>
void append_confirmation(Out& out, RespVersion version, std::string_view verb, std::string_view name, bool named,
                         std::size_t count) {
  protocol::append_header(out, version == RespVersion::kResp3 ? '>' : '*', 3);
  protocol::append_bulk(out, verb);
  if (named) {
    protocol::append_bulk(out, name);
  } else {
    protocol::append_null(out, version);
  }
  protocol::append_integer(out, static_cast<std::int64_t>(count));
}

}  // namespace

// What RESP2 allows to a client that is subscribed, because it could not tell replies from messages.
PinnedClient::Taken PinnedClient::in_subscriber_mode(const Command& command, const Args& args) {
  const std::string_view name = command.name;
  if (name == "quit" || name == "reset") return Taken::kNotMine;
  const bool known = name != "unknown" && (command.subcommands.empty() || args.size() == 1);
  if (!known || !command.arity_fits(args.size()) || (name == "ping" && args.size() > 2))
    return Taken::kNotMine;  // Redis sees that first
  if (command.has(protocol::kFlagPubsub) && command.has(protocol::kFlagNoscript)) return Taken::kNotMine;
  if (name == "ping") {
    session_.answer([&](auto& out) {
      protocol::append_header(out, '*', 2);
      protocol::append_bulk(out, "pong");
      protocol::append_bulk(out, args.size() == 2 ? args[1] : std::string_view());
    });
    return Taken::kYes;
  }
  const std::string error = "Can't execute '" + std::string(name) +
                            "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
  if (name == "exec") return abort_exec(error);
  session_.answer_error("ERR " + error);
  return Taken::kYes;
}

const Endpoint* PinnedClient::subscription_node(Kind kind, std::uint32_t slot) {
  const bool by_slot = kind == kShards && worker_.router().topology()->cluster;
  if (!by_slot && subscriptions_) {
    for (const Connection& connection : subscriptions_->connections) {
      if (!connection->broken()) return &connection->endpoint();
    }
  }
  return node_of(by_slot ? slot : kNoSlot);
}

PinnedClient::Have PinnedClient::have_subscription(const Endpoint& node, PinnedConnection*& to) {
  if (subscriptions_) {
    for (const Connection& connection : subscriptions_->connections) {
      if (connection->endpoint() == node) {
        to = connection.get();
        return Have::kYes;
      }
    }
  }
  const Have got = have(node, to, true);
  if (got != Have::kYes) return got;
  if (!subscriptions_) subscriptions_ = std::make_unique<Subscriptions>();
  const auto at = std::find_if(connections_.begin(), connections_.end(), [&](const auto& c) { return c.get() == to; });
  subscriptions_->connections.push_back(std::move(*at));
  connections_.erase(at);
  return got;
}

PinnedClient::Taken PinnedClient::subscribe(const Command& command, const Args& args, std::string_view raw) {
  if (!session_.replies_.empty()) return wait_until_empty();
  const Kind kind = command.name == "subscribe" ? kChannels : command.name == "psubscribe" ? kPatterns : kShards;
  std::uint32_t slot = kNoSlot;
  if (kind == kShards) {
    slot = session_.slot_of(args[1]);
    for (std::size_t i = 2; i < args.size(); ++i) {
      if (session_.slot_of(args[i]) == slot) continue;
      session_.answer_error("CROSSSLOT Keys in request don't hash to the same slot");
      return Taken::kYes;
    }
  }
  const Endpoint* node = subscription_node(kind, slot);
  if (node == nullptr) return Taken::kYes;
  PinnedConnection* to = nullptr;
  const Have got = have_subscription(Endpoint(*node), to);
  if (got != Have::kYes) return got == Have::kFailed ? Taken::kYes : Taken::kNotNow;
  Subscriptions& s = *subscriptions_;
  for (std::size_t i = 1; i < args.size(); ++i) {
    const auto [place, added] = s.names[kind].emplace(std::string(args[i]), to);
    if (added) {
      s.added[kind].push_back(place->first);
      session_.kept_bytes_ += place->first.size();
    }
  }
  await_confirmations(args.size() - 1);
  to->tell(raw);
  return Taken::kYes;
}

PinnedClient::Taken PinnedClient::unsubscribe(const Command& command, const Args& args, std::string_view raw) {
  if (!session_.replies_.empty()) return wait_until_empty();
  const Kind kind = command.name == "unsubscribe" ? kChannels : command.name == "punsubscribe" ? kPatterns : kShards;
  std::vector<std::string_view> names(args.begin() + 1, args.end());
  if (!subscriptions_ || (names.empty() && subscriptions_->names[kind].empty())) {
    confirm_here(kind, names);
    return Taken::kYes;
  }
  const bool by_slot = kind == kShards && worker_.router().topology()->cluster;
  if (by_slot) {
    unsubscribe_shards(names);
    return Taken::kYes;
  }
  Subscriptions& s = *subscriptions_;
  const std::size_t count = names.empty() ? s.names[kind].size() : names.size();
  // All but a cluster's shard channels are on one connection.
  const Endpoint* node = subscription_node(kind, kNoSlot);
  PinnedConnection* to = nullptr;
  if (node == nullptr) return Taken::kYes;
  const Have got = have_subscription(Endpoint(*node), to);
  if (got != Have::kYes) return got == Have::kFailed ? Taken::kYes : Taken::kNotNow;
  if (names.empty()) {
    for (const auto& [name, home] : s.names[kind]) forget_bytes(name);
    s.names[kind].clear();
  }
  for (const std::string_view name : names) forget(kind, name);
  await_confirmations(count);
  to->tell(raw);
  return Taken::kYes;
}

void PinnedClient::forget_bytes(std::string_view name) { session_.kept_bytes_ -= name.size(); }

bool PinnedClient::forget(Kind kind, std::string_view name) {
  auto& names = subscriptions_->names[kind];
  const auto at = names.find(name);
  if (at == names.end()) return false;
  forget_bytes(name);
  names.erase(at);
  return true;
}

// They may be on several nodes: what these say is not passed on, the client is told here.
void PinnedClient::unsubscribe_shards(const std::vector<std::string_view>& named) {
  Subscriptions& s = *subscriptions_;
  std::vector<std::string> names(named.begin(), named.end());
  if (named.empty()) {
    for (const auto& [name, home] : s.names[kShards]) names.push_back(name);
  }
  std::string command;
  for (const std::string& name : names) {
    if (const auto at = s.names[kShards].find(name); at != s.names[kShards].end()) {
      command.clear();
      protocol::append_command(command, {"SUNSUBSCRIBE", name});
      at->second->tell(command);
      ++s.unheard;
      forget(kShards, name);
    }
    confirm_here(kShards, {name});
  }
  if (nothing_subscribed()) release_subscriptions();
}

void PinnedClient::confirm_here(Kind kind, const std::vector<std::string_view>& names) {
  static constexpr std::string_view kVerbs[] = {"unsubscribe", "punsubscribe", "sunsubscribe"};
  std::size_t count = shard_channels();
  if (kind != kShards) count = channels() + patterns();
  session_.answer_in_any_case([&](auto& out) {
    if (names.empty()) append_confirmation(out, session_.version_, kVerbs[kind], {}, false, count);
    for (const std::string_view name : names) {
      append_confirmation(out, session_.version_, kVerbs[kind], name, true, count);
    }
  });
}

void PinnedClient::await_confirmations(std::size_t count) {
  subscriptions_->confirmations = count;
  subscriptions_->number = session_.open_place();
  session_.replies_.at(subscriptions_->number).muted = false;  // CLIENT REPLY is not about pushes
  busy_ = true;
}

void PinnedClient::on_push(PinnedConnection& from, std::string_view frame) {
  if (tracking_ && tracking_->connection.get() == &from) {
    session_.push(frame);
    return;
  }
  if (!subscriptions_) return;
  const auto& own = subscriptions_->connections;
  if (std::none_of(own.begin(), own.end(), [&](const Connection& c) { return c.get() == &from; })) return;
  session_.heard();
  Subscriptions& s = *subscriptions_;
  const std::string_view verb = verb_of(frame);
  if (verb == "sunsubscribe" && s.unheard != 0) {
    --s.unheard;
    return;
  }
  if (s.confirmations != 0 && (frame.starts_with('-') || verb.ends_with("subscribe"))) {
    on_confirmation(frame, frame.starts_with('-'), verb == "ssubscribe");
    return;
  }
  if (verb == "sunsubscribe") note_unasked(frame);
  session_.push(in_clients_version(frame));
}

// HELLO may have come after the subscription: its connection speaks the version of that time. Frames differ in their first
// byte only.
std::string_view PinnedClient::in_clients_version(std::string_view frame) {
  const char first = session_.version_ == RespVersion::kResp3 ? '>' : '*';
  if (frame.front() == first || frame.front() == '-') return frame;
  reframed_.assign(frame);
  reframed_.front() = first;
  return reframed_;
}

void PinnedClient::on_confirmation(std::string_view frame, bool error, bool shard) {
  Subscriptions& s = *subscriptions_;
  if (error) {
    // None of it was done.
    for (const Kind kind : {kChannels, kPatterns, kShards}) {
      for (const std::string& name : s.added[kind]) forget(kind, name);
    }
  }
  std::string counted;
  if (shard && s.connections.size() > 1) {
    // Each node counts its own.
    protocol::ReplyTree tree;
    if (tree.parse(frame) && tree.root().children == 3) {
      append_confirmation(counted, session_.version_, "ssubscribe", tree.nodes()[2].text, true,
                          shard_channels() - (s.confirmations - 1));
      frame = counted;
    }
  }
  session_.emit(s.number, in_clients_version(frame));
  s.confirmations = error ? 0 : s.confirmations - 1;
  if (s.confirmations != 0) return;
  for (auto& added : s.added) added.clear();
  const std::uint64_t number = s.number;
  if (nothing_subscribed()) release_subscriptions();
  idle_again();
  session_.finish(number);
}

// The slot of a shard channel left its node, which ends the subscription.
void PinnedClient::note_unasked(std::string_view frame) {
  protocol::ReplyTree tree;
  if (!tree.parse(frame) || tree.root().children < 2) return;
  forget(kShards, tree.nodes()[2].text);
}

void PinnedClient::release_subscriptions() {
  if (!subscriptions_) return;
  const bool clean = nothing_subscribed() && subscriptions_->unheard == 0;
  for (const auto& names : subscriptions_->names) {
    for (const auto& [name, home] : names) forget_bytes(name);
  }
  for (Connection& connection : subscriptions_->connections) {
    worker_.pinned().give_back(std::move(connection), clean && connection->idle());
  }
  subscriptions_.reset();
}

}  // namespace nearcached::daemon
