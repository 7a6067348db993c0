// MULTI, EXEC, DISCARD, WATCH, UNWATCH.
#include <algorithm>
#include <utility>

#include "daemon/pinned_client.hpp"
#include "daemon/session.hpp"
#include "daemon/worker.hpp"
#include "protocol/writer.hpp"
#include "tiers/io/clock.hpp"
#include "tiers/upstream/redirect.hpp"

namespace nearcached::daemon {

using protocol::Handling;
using tiers::upstream::Endpoint;
using tiers::upstream::kNoSlot;
using tiers::upstream::PinnedConnection;
using tiers::upstream::RedirectKind;

namespace {

constexpr std::uint32_t kRestartsMax = 5;
constexpr std::string_view kMulti = "*1\r\n$5\r\nMULTI\r\n";
constexpr std::string_view kExec = "*1\r\n$4\r\nEXEC\r\n";
constexpr std::string_view kDiscard = "*1\r\n$7\r\nDISCARD\r\n";
constexpr std::string_view kUnwatch = "*1\r\n$7\r\nUNWATCH\r\n";
constexpr std::string_view kCrossSlot = "CROSSSLOT Keys in request don't hash to the same slot";

}  // namespace

PinnedClient::Taken PinnedClient::multi() {
  if (!session_.replies_.empty()) return wait_until_empty();
  if (!transaction_) transaction_ = std::make_unique<Transaction>();
  transaction_->queueing = true;
  session_.answer([](auto& out) { protocol::append_simple(out, "OK"); });
  return Taken::kYes;
}

PinnedClient::Taken PinnedClient::watch(const Command& command, const Args& args, std::string_view raw) {
  if (!session_.replies_.empty()) return wait_until_empty();
  std::vector<std::uint32_t>& positions = worker_.positions();
  if (!protocol::extract_keys(command, args, positions)) positions.clear();
  const std::uint32_t slot = session_.slot_of(args[1]);
  const std::uint32_t fixed = transaction_ && transaction_->slot != kNoSlot ? transaction_->slot : slot;
  for (const std::uint32_t at : positions) {
    if (session_.slot_of(args[at]) == fixed) continue;
    session_.answer_error(kCrossSlot);
    return Taken::kYes;
  }
  if (transaction_ && transaction_->lost) {
    session_.answer([](auto& out) { protocol::append_simple(out, "OK"); });
    return Taken::kYes;
  }
  const Endpoint* node = transaction_ && transaction_->watched != 0 ? &transaction_->node : node_of(slot);
  if (node == nullptr) return Taken::kYes;
  PinnedConnection* connection = nullptr;
  const Have got = have(*node, connection);
  if (got != Have::kYes) return got == Have::kFailed ? Taken::kYes : Taken::kNotNow;
  if (!transaction_) transaction_ = std::make_unique<Transaction>();
  transaction_->slot = slot;
  transaction_->node = *node;
  transaction_->watched += args.size() - 1;
  const std::uint64_t number = session_.open_place();
  connection->send(make_token(number, 0), raw, tiers::io::boot_us() + session_.command_timeout_us());
  return Taken::kYes;
}

bool PinnedClient::select(std::uint64_t number, std::uint32_t database) {
  PinnedConnection* connection = transaction_ ? find(transaction_->node) : nullptr;
  if (connection == nullptr) return false;
  const std::string wanted = std::to_string(database);
  std::string command;
  protocol::append_command(command, {"SELECT", wanted});
  transaction_->selected = true;
  connection->send(make_token(number, 0), command, tiers::io::boot_us() + session_.command_timeout_us());
  return true;
}

void PinnedClient::forget_watch() {
  if (!transaction_) return;
  transaction_->lost |= transaction_->watched != 0;
  release(false);
}

PinnedClient::Taken PinnedClient::unwatch() {
  if (!session_.replies_.empty()) return wait_until_empty();
  end_with("+OK\r\n");
  return Taken::kYes;
}

PinnedClient::Taken PinnedClient::discard() {
  if (!session_.replies_.empty()) return wait_until_empty();
  end_with("+OK\r\n");
  return Taken::kYes;
}

// An EXEC that is refused ends the transaction and the watches, as in Redis, whether it is behind MULTI or not.
PinnedClient::Taken PinnedClient::abort_exec(std::string_view why) {
  if (!session_.replies_.empty()) return wait_until_empty();
  end_with("-EXECABORT Transaction discarded because of: " + std::string(why) + "\r\n");
  return Taken::kYes;
}

// Leaves nothing behind on the connection, so that it can be given back, and answers with `reply`.
void PinnedClient::end_with(std::string_view reply) {
  PinnedConnection* connection = transaction_ ? find(transaction_->node) : nullptr;
  if (connection == nullptr) {
    end_transaction(false);
    session_.answer([&](auto& out) { protocol::append_text(out, reply); });
    return;
  }
  const std::uint64_t number = session_.open_place();
  transaction_->exec = number;
  transaction_->ending = reply;
  busy_ = true;
  const std::string_view end = transaction_->begun ? kDiscard : kUnwatch;
  connection->send(make_token(number, 0), end, tiers::io::boot_us() + session_.command_timeout_us());
}

void PinnedClient::end_transaction(bool clean) {
  if (transaction_) {
    for (const Queued& queued : transaction_->queued) session_.kept_bytes_ -= queued.bytes.size();
  }
  const bool as_it_came = !transaction_ || !transaction_->selected;
  transaction_.reset();
  release(clean && as_it_came);
  refusal_.clear();
}

void PinnedClient::refuse_queued(std::string_view error) {
  if (tracking_) {
    // EXEC is the upstream's, which has to know: it is sent a command that it has never heard of.
    std::string unheard_of;
    protocol::append_command(unheard_of, {"nearcached:refused"});
    tracking_->connection->send(kOurOwn, unheard_of, tiers::io::boot_us() + session_.command_timeout_us());
  } else {
    transaction_->spoiled = true;
  }
  session_.answer_error(error);
}

// Would change what the connection is, and that is not this client's but for the transaction.
bool PinnedClient::not_in_transactions(const Command& command) {
  const std::string_view name = command.name;
  if (name.starts_with("client|")) return name != "client|id" && name != "client|getname" && name != "client|info";
  return name == "auth" || name == "hello" || name == "select" || name == "monitor" || name == "client" ||
         command.handling == Handling::kDenied ||
         (command.has(protocol::kFlagPubsub) && command.has(protocol::kFlagNoscript));
}

PinnedClient::Taken PinnedClient::queue(const Command& command, const Args& args, std::string_view raw) {
  const std::string_view name = command.name;
  if (command.arity_fits(args.size())) {
    if (name == "exec") return exec();
    if (name == "discard") return discard();
    if (name == "quit" || name == "reset") return Taken::kNotMine;
    if (name == "multi" || name == "watch") {
      session_.answer_error(name == "multi" ? "ERR MULTI calls can not be nested" : "ERR WATCH inside MULTI is not allowed");
      return Taken::kYes;
    }
  }
  if (name == "exec") return abort_exec("wrong number of arguments for 'exec' command");
  if (command.handling == Handling::kDenied) {
    refuse_queued("NOPERM nearcached: '" + std::string(name) + "' is not passed on to the upstream");
    return Taken::kYes;
  }
  if (not_in_transactions(command)) {
    refuse_queued("ERR nearcached: '" + std::string(name) + "' is not offered inside a transaction");
    return Taken::kYes;
  }
  return enqueue(command, args, raw);
}

PinnedClient::Taken PinnedClient::enqueue(const Command& command, const Args& args, std::string_view raw) {
  Transaction& t = *transaction_;
  std::vector<std::uint32_t>& positions = worker_.positions();
  if (!protocol::extract_keys(command, args, positions)) positions.clear();
  const std::uint32_t slot = positions.empty() ? t.slot : std::uint32_t{session_.slot_of(args[positions[0]])};
  for (const std::uint32_t at : positions) {
    if (session_.slot_of(args[at]) == (t.slot == kNoSlot ? slot : t.slot)) continue;
    refuse_queued(kCrossSlot);
    return Taken::kYes;
  }
  if (session_.kept_bytes_ + raw.size() > session_.shared_.settings.limits.output_bytes) {
    refuse_queued("ERR nearcached: the transaction is larger than limits.output_bytes");
    return Taken::kYes;
  }
  if (t.lost || t.restart) {
    // It is sent with EXEC, if at all.
    t.queued.push_back({std::string(raw), slot, session_.shared_.publishes && protocol::may_write(command)});
    session_.kept_bytes_ += raw.size();
    note_keys(t.touched, command, args);
    session_.answer([](auto& out) { protocol::append_simple(out, "QUEUED"); });
    return Taken::kYes;
  }
  const bool has_node = t.watched != 0 || t.begun;
  const Endpoint* node = has_node && t.slot == slot ? &t.node : node_of(slot);
  if (node == nullptr) {
    t.spoiled = true;
    return Taken::kYes;
  }
  // Only commands without keys were queued, and they went to another node than the first key's.
  if (t.begun && *node != t.node) {
    if (!session_.replies_.empty()) return wait_until_empty();
    release(false);
    t.begun = false;
  }
  PinnedConnection* connection = nullptr;
  const Have got = have(*node, connection);
  if (got == Have::kFailed) t.spoiled = true;
  if (got != Have::kYes) return got == Have::kFailed ? Taken::kYes : Taken::kNotNow;
  t.node = *node;
  if (!positions.empty()) t.slot = slot;
  if (!t.begun) begin_on(*connection);
  t.queued.push_back({std::string(raw), slot, session_.shared_.publishes && protocol::may_write(command)});
  session_.kept_bytes_ += raw.size();
  note_keys(t.touched, command, args);
  const std::uint64_t number = session_.open_place();
  connection->send(make_token(number, 0), raw, tiers::io::boot_us() + session_.command_timeout_us());
  return Taken::kYes;
}

// MULTI, and what was queued before.
void PinnedClient::begin_on(PinnedConnection& connection) {
  const std::int64_t deadline_us = tiers::io::boot_us() + session_.command_timeout_us();
  connection.send(kOurOwn, kMulti, deadline_us);
  for (const Queued& queued : transaction_->queued) connection.send(kOurOwn, queued.bytes, deadline_us);
  transaction_->begun = true;
}

void PinnedClient::note_keys(Touched& touched, const Command& command, const Args& args) {
  constexpr std::size_t kHashesMax = 1u << 20;
  std::vector<std::uint32_t>& positions = worker_.positions();
  if (!protocol::extract_keys(command, args, positions)) positions.clear();
  const bool fits = touched.hashes.size() + positions.size() <= kHashesMax;
  for (const std::uint32_t at : positions) {
    if (fits) touched.hashes.push_back(tiers::l1::hash_key(args[at]));
  }
  if (!protocol::may_write(command)) return;
  touched.writes_unknown |= !fits;
  touched.writes_all |= command.has(protocol::kFlagChangesAllKeys);
  touched.writes_unknown |= positions.empty() || !protocol::write_keys_known(command);
}

void PinnedClient::on_queued_reply(std::uint64_t token, std::string_view line) {
  Transaction* t = transaction_.get();
  if (t != nullptr && line.starts_with('-') && line.size() > 3) {
    const auto redirect = tiers::upstream::parse_redirect(line.substr(1, line.size() - 3), t->node);
    if (redirect && redirect->kind == RedirectKind::kMoved) {
      worker_.router().request_refresh();
      t->lost |= t->watched != 0;
      t->restart = true;
      t->node = redirect->target;
      session_.on_reply(token, t->queueing ? "+QUEUED\r\n" : "+OK\r\n", true);
      return;
    }
  }
  if (t != nullptr && t->selected && line.starts_with('-')) t->spoiled = true;
  session_.on_reply(token, line, true);
}

PinnedClient::Taken PinnedClient::exec() {
  Transaction& t = *transaction_;
  // Its keys are known, but whether it must be begun anew is not before all replies are in.
  if (t.restart && !session_.replies_.empty()) return wait_until_empty();
  if (t.spoiled || t.lost) {
    if (!session_.replies_.empty()) return wait_until_empty();
    end_with(t.spoiled ? "-EXECABORT Transaction discarded because of previous errors.\r\n" : null_reply());
    return Taken::kYes;
  }
  if (t.queued.empty() && t.watched == 0) {
    end_transaction(true);
    session_.answer([](auto& out) { protocol::append_header(out, '*', 0); });
    return Taken::kYes;
  }
  if (!t.restart && find(t.node) == nullptr) t.restart = true;
  if (t.restart) {
    const Endpoint node = t.node;
    if (!std::exchange(t.left, true)) {
      release(false);
      t.begun = false;
    }
    PinnedConnection* connection = nullptr;
    const Have got = have(node, connection);
    if (got == Have::kFailed) end_transaction(false);
    if (got != Have::kYes) return got == Have::kFailed ? Taken::kYes : Taken::kNotNow;
  }
  const std::uint64_t number = session_.open_place();
  t.exec = number;
  busy_ = true;
  fence_exec(number);
  send_exec();
  return Taken::kYes;
}

void PinnedClient::send_exec() {
  Transaction& t = *transaction_;
  PinnedConnection* connection = find(t.node);
  t.restart = t.left = false;
  if (!t.begun) begin_on(*connection);
  connection->send(make_token(t.exec, 0), kExec, tiers::io::boot_us() + session_.command_timeout_us());
}

void PinnedClient::fence(Touched& touched, std::uint64_t number) {
  std::vector<std::uint64_t>& hashes = touched.hashes;
  std::sort(hashes.begin(), hashes.end());
  hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
  Session::Place& place = session_.replies_.at(number);
  if (touched.writes_all) {
    session_.begin_pinned_write(place, Session::Touch::kWriteAll);
  } else if (touched.writes_unknown) {
    session_.begin_pinned_write(place, Session::Touch::kWriteUnknown);
  } else if (!hashes.empty()) {
    place.hashes = std::make_unique<std::vector<std::uint64_t>>(hashes);
    session_.begin_pinned_write(place, Session::Touch::kWrite);
  }
}

void PinnedClient::fence_exec(std::uint64_t number) {
  Transaction& t = *transaction_;
  fence(t.touched, number);
  Session::Place& place = session_.replies_.at(number);
  for (const Queued& queued : t.queued) {
    place.unpublished += queued.announced ? 1 : 0;
    if (queued.slot != kNoSlot) session_.note_written(queued.slot);
  }
}

// Of an EXEC whose watched keys changed, or may have.
std::string_view PinnedClient::null_reply() const {
  return session_.version_ == protocol::RespVersion::kResp3 ? "_\r\n" : "*-1\r\n";
}

void PinnedClient::on_exec_reply(std::uint64_t token, std::string_view bytes, bool last) {
  Transaction& t = *transaction_;
  std::string whole;
  if (!line_.empty() || !t.ending.empty() || (t.queueing && bytes.starts_with('-'))) {
    line_.append(bytes);
    if (!last) return;
    whole = std::exchange(line_, {});
    bytes = whole;
    if (!t.ending.empty()) {
      whole = std::exchange(t.ending, {});
      bytes = whole;
    }
    const auto redirect = tiers::upstream::parse_redirect(bytes.substr(1, bytes.size() - 3), t.node);
    const bool moved = redirect && redirect->kind == RedirectKind::kMoved;
    if (moved) {
      worker_.router().request_refresh();
      t.node = redirect->target;
    }
    if ((moved || t.restart) && t.watched == 0 && ++t.restarts <= kRestartsMax) {
      restart_exec();
      return;
    }
    if (moved || (t.restart && t.watched != 0)) bytes = null_reply();
    session_.replies_.at(t.exec).unpublished = 0;
  }
  t.queueing = false;  // what follows is the rest of this reply
  const bool nothing_done = bytes == "*-1\r\n" || bytes == "_\r\n";
  if (nothing_done) session_.replies_.at(t.exec).unpublished = 0;
  if (!last) {
    session_.on_reply(token, bytes, false);
    return;
  }
  const std::uint64_t number = t.exec;
  std::vector<Queued> announced;
  if (session_.replies_.at(number).unpublished != 0) {
    std::copy_if(std::make_move_iterator(t.queued.begin()), std::make_move_iterator(t.queued.end()),
                 std::back_inserter(announced), [](const Queued& queued) { return queued.announced; });
  }
  end_transaction(true);
  idle_again();
  session_.on_reply(token, bytes, true);
  for (const Queued& queued : announced) announce(number, queued.bytes, queued.slot);
}

void PinnedClient::restart_exec() {
  // Not from inside a call of the connection that is to go.
  worker_.loop().post([this, alive = std::weak_ptr<bool>(session_.alive_)] {
    if (alive.expired() || !transaction_ || !busy_) return;
    release(false);
    transaction_->begun = false;
    acquire(transaction_->node, [this] {
      if (find(transaction_->node) != nullptr) {
        send_exec();
      } else {
        const std::uint64_t number = transaction_->exec;
        const std::string why = std::exchange(refusal_, {});
        session_.replies_.at(number).unpublished = 0;
        end_transaction(false);
        idle_again();
        session_.on_failure(make_token(number, 0), why, false);
      }
    });
  });
}

}  // namespace nearcached::daemon
