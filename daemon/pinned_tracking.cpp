// CLIENT TRACKING that a client has asked for: it keeps values itself, and is told of their changes by the upstream.
#include <algorithm>
#include <utility>

#include "daemon/pinned_client.hpp"
#include "daemon/session.hpp"
#include "daemon/worker.hpp"
#include "protocol/ascii_case.hpp"
#include "protocol/writer.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::daemon {

using protocol::equal_ignoring_case;
using protocol::Handling;
using tiers::upstream::Endpoint;
using tiers::upstream::kNoSlot;
using tiers::upstream::PinnedConnection;

namespace {

// Of the session, whatever connection its commands travel on.
bool is_of_the_session(const protocol::Command& command) {
  const std::string_view name = command.name;
  if (name == "client|trackinginfo" || name == "client|getredir") return false;
  const bool subscribes = command.has(protocol::kFlagPubsub) && command.has(protocol::kFlagNoscript);
  return command.handling == Handling::kLocal || command.handling == Handling::kDenied || subscribes ||
         name == "acl|whoami" || name == "config|get";
}

// Would make the connection another one than the session knows.
bool changes_whose_it_is(const protocol::Command& command, const PinnedClient::Args& args) {
  const std::string_view name = command.name;
  return name == "auth" || name == "select" || (name == "hello" && args.size() > 1);
}

bool is_about_tracking(const protocol::Command& command) {
  const std::string_view name = command.name;
  return name == "client|tracking" || name == "client|caching" || name == "client|trackinginfo" || name == "client|getredir";
}

}  // namespace

PinnedClient::Taken PinnedClient::begin_tracking(const Args& args, std::string_view raw) {
  if (!session_.replies_.empty()) return wait_until_empty();
  if (equal_ignoring_case(args[2], "off")) {
    session_.answer([](auto& out) { protocol::append_simple(out, "OK"); });
    return Taken::kYes;
  }
  std::string_view problem;
  const bool redirects =
      std::any_of(args.begin() + 3, args.end(), [](std::string_view word) { return equal_ignoring_case(word, "redirect"); });
  if (redirects) problem = "ERR nearcached: CLIENT TRACKING with REDIRECT is not offered: use RESP3";
  if (transaction_) problem = "ERR nearcached: CLIENT TRACKING behind WATCH is not offered";
  if (worker_.router().topology()->cluster)
    problem = "ERR nearcached: CLIENT TRACKING over a cluster's nodes is not offered";
  if (session_.shared_.publishes) problem = "ERR nearcached: CLIENT TRACKING is not offered with coherence.mode: bus";
  if (!problem.empty()) {
    session_.answer_error(problem);
    return Taken::kYes;
  }
  const Endpoint* node = node_of(kNoSlot);
  if (node == nullptr) return Taken::kYes;
  PinnedConnection* connection = nullptr;
  const Have got = have(*node, connection, true);
  if (got != Have::kYes) return got == Have::kFailed ? Taken::kYes : Taken::kNotNow;
  tracking_ = std::make_unique<Tracking>();
  const auto at =
      std::find_if(connections_.begin(), connections_.end(), [&](const auto& c) { return c.get() == connection; });
  tracking_->connection = std::move(*at);
  connections_.erase(at);
  send_tracked(Tracked::kOn, raw, session_.open_place());
  return Taken::kYes;
}

void PinnedClient::send_tracked(Tracked what, std::string_view raw, std::uint64_t number) {
  const std::uint64_t token = make_token(number, 0);
  const bool for_ever = what == Tracked::kBlocking;
  tracking_->sent.push_back({token, what});
  tracking_->connection->send(token, raw, for_ever ? 0 : tiers::io::boot_us() + session_.command_timeout_us());
}

// All commands of such a client travel on its own connection: the upstream remembers by connection what was read, and
// CLIENT CACHING, WATCH and MULTI are about the commands behind them. L1 is not asked, but learns of what is written.
// Replies are passed on when they come, so that no invalidation overtakes the value that it is about.
PinnedClient::Taken PinnedClient::pass_through(const Command& command, const Args& args, std::string_view raw) {
  Tracking& t = *tracking_;
  const bool others = session_.replies_.size() != t.sent.size();
  if (t.ended && !t.multi && !t.watches) {
    if (!session_.replies_.empty()) return wait_until_empty();
    end_tracking();
    return Taken::kNotMine;
  }
  const std::string_view name = command.name;
  const bool ends = name == "quit" || name == "reset";
  const bool changes = changes_whose_it_is(command, args);
  if (ends || (!t.multi && !changes && is_of_the_session(command)))
    return t.sent.empty() ? Taken::kNotMine : wait_until_empty();
  if (others) return wait_until_empty();
  if (changes) return refuse_tracked(name);
  const bool whole = command.arity_fits(args.size());
  const bool is_end = whole && (name == "exec" || name == "discard");
  if (t.multi && !is_end) {
    if (!is_about_tracking(command) && not_in_transactions(command)) return refuse_tracked(name);
    note_keys(t.touched, command, args);
    send_tracked(Tracked::kOther, raw, session_.open_place());
    return Taken::kYes;
  }
  const bool blocks = command.has(protocol::kFlagBlocking) || name == "wait" || name == "waitaof";
  if (blocks && !session_.replies_.empty()) return wait_until_empty();
  const std::uint64_t number = session_.open_place();
  Tracked what = blocks ? Tracked::kBlocking : Tracked::kOther;
  if (name == "client|tracking") {
    what = args.size() > 2 && equal_ignoring_case(args[2], "off") ? Tracked::kOff : Tracked::kOn;
  } else if (is_end) {
    if (name == "exec") fence(t.touched, number);
    t.multi = t.watches = false;
  } else if (blocks) {
    t.touched = {};
    note_keys(t.touched, command, args);
    busy_ = blocked_ = true;
    session_.stream_.mind_hangup(session_.shared_.settings.limits.output_bytes);
  } else if (whole && name == "multi") {
    t.multi = true;
    t.touched = {};
  } else if (name == "watch" || name == "unwatch") {
    t.watches = name == "watch";
  } else {
    if (!protocol::extract_keys(command, args, worker_.positions())) worker_.positions().clear();
    session_.touch_keys(session_.replies_.at(number), command, args);
  }
  send_tracked(what, raw, number);
  return Taken::kYes;
}

PinnedClient::Taken PinnedClient::refuse_tracked(std::string_view name) {
  const std::string error = "ERR nearcached: '" + std::string(name) + "' is not offered while CLIENT TRACKING is on";
  if (tracking_->multi) {
    refuse_queued(error);
  } else {
    session_.answer_error(error);
  }
  return Taken::kYes;
}

bool PinnedClient::is_tracked(std::uint64_t token) const {
  return tracking_ && !tracking_->sent.empty() && tracking_->sent.front().token == token;
}

void PinnedClient::on_tracked_reply(std::uint64_t token, std::string_view bytes, bool last) {
  Tracking& t = *tracking_;
  const Tracked what = t.sent.front().what;
  if (what == Tracked::kBlocking && !std::exchange(t.fenced, true)) fence(t.touched, token_number(token));
  if (last) {
    t.sent.pop_front();
    t.fenced = false;
    if (what == Tracked::kBlocking) idle_again();
    const bool done = bytes == "+OK\r\n";
    if (what == Tracked::kOn) t.on |= done;
    if (what == Tracked::kOff && done) t.on = false;
    if (what == Tracked::kOn || what == Tracked::kOff) t.ended = !t.on;
  }
  session_.on_reply(token, bytes, last);
}

void PinnedClient::end_tracking() {
  if (!tracking_) return;
  worker_.pinned().give_back(std::move(tracking_->connection), false);
  tracking_.reset();
}

}  // namespace nearcached::daemon
