// Write-behind as far as a session is concerned: writes that are answered before the upstream has them, reads of such keys,
// and what must wait until they are upstream.
#include <algorithm>
#include <chrono>
#include <utility>

#include "daemon/session.hpp"
#include "daemon/worker.hpp"
#include "protocol/ascii_case.hpp"
#include "tiers/write_behind.hpp"
#include "tiers/write_behind/deferrable.hpp"
#include "tiers/write_behind/pending_reply.hpp"

namespace nearcached::daemon {

using protocol::Handling;
using tiers::Durability;
using tiers::Policy;
using tiers::write_behind::DeferrableWrite;
using tiers::write_behind::QueueKey;
using tiers::write_behind::WriteQueue;

namespace {

std::int64_t unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

// It depends on, or changes, what it does not name.
bool concerns_all(const protocol::Command& command, bool names_keys) {
  if (command.name == "exec" || command.name == "wait" || command.name == "waitaof") return true;
  if (!names_keys) return protocol::may_write(command) || command.has(protocol::kFlagReadonly);
  return protocol::may_write(command) && !protocol::write_keys_known(command);
}

}  // namespace

Session::Behind Session::behind(const Command& command, const Args& args) {
  if (!command.arity_fits(args.size())) return Behind::kNotMine;
  const bool alone = command.handling == Handling::kLocal || command.handling == Handling::kDenied;
  if (alone || (pinned_ && pinned_->queueing() && command.name != "exec")) return Behind::kNotMine;
  std::vector<std::uint32_t>& positions = worker_.positions();
  if (!protocol::extract_keys(command, args, positions)) positions.clear();
  const bool all = concerns_all(command, !positions.empty());
  if (!all && positions.empty()) return Behind::kNotMine;
  if (!pinned_ && !all) {
    const Behind done = protocol::may_write(command) ? defer(command, args) : answer_pending(command, args);
    if (done == Behind::kTaken) flush_awaited_ = false;
    if (done != Behind::kNotMine) return done;
  }
  return wait_for_flush(command, args, all);
}

// After a restart nobody but the configured user has a password.
bool Session::may_defer() const { return identity_->credentials == shared_.identities.configured()->credentials; }

Session::Behind Session::defer(const Command& command, const Args& args) {
  if (!may_defer()) return Behind::kNotMine;
  const std::vector<DeferrableWrite> writes = tiers::write_behind::deferrable_writes(command.name, args, unix_ms());
  bool durable = false;
  for (const DeferrableWrite& one : writes) {
    const Durability durability = shared_.cache.policies().of(one.key).durability;
    if (durability == Durability::kImmediate) return Behind::kNotMine;
    durable |= durability == Durability::kDeferred;
  }
  if (writes.empty()) return Behind::kNotMine;
  // An earlier direct write of the key must not come behind this one.
  for (const DeferrableWrite& one : writes) {
    if (forwarded_.empty() || !forwarded_.contains(tiers::l1::hash_key(one.key))) continue;
    stall_ = Stall::kUntilEmpty;
    return Behind::kNotNow;
  }
  std::uint64_t sequence = 0;
  for (const DeferrableWrite& one : writes) {
    const std::uint16_t owner = worker_.router().topology()->owner[slot_of(one.key)];
    const std::uint16_t node = owner == tiers::upstream::Topology::kNoNode ? std::uint16_t{0} : owner;
    const auto put = shared_.write_behind->put({identity_->database, one.key}, node,
                                               shared_.cache.policies().of(one.key).priority, one.write, now_us_);
    // What was put before it is flushed ahead of the whole command.
    if (put.put != WriteQueue::Put::kAccepted) return Behind::kNotMine;
    // It counts as dirty by now: no fill will be kept. What was kept before goes.
    shared_.cache.on_read_past(tiers::l1::hash_key(one.key));
    sequence = put.sequence;
  }
  if (durable) {
    answer_when_safe(sequence, "+OK\r\n");
  } else {
    answer([](auto& out) { protocol::append_simple(out, "OK"); });
  }
  return Behind::kTaken;
}

Session::Behind Session::answer_pending(const Command& command, const Args& args) {
  const std::vector<std::uint32_t>& positions = worker_.positions();
  if (positions.size() != 1 || !may_defer()) return Behind::kNotMine;
  const std::string_view key = args[positions[0]];
  const auto pending = shared_.write_behind->queue().find({identity_->database, key});
  if (!pending) return Behind::kNotMine;
  std::string reply;
  if (!tiers::write_behind::append_pending_reply(reply, command.name, args, *pending->write, unix_ms(), version_)) {
    return Behind::kNotMine;
  }
  // Nobody is told what a crash may take back.
  const bool durable = shared_.cache.policies().of(key).durability == Durability::kDeferred;
  answer_when_safe(durable ? pending->sequence : 0, std::move(reply));
  return Behind::kTaken;
}

void Session::answer_when_safe(std::uint64_t sequence, std::string reply) {
  if (sequence <= shared_.write_behind->safe_sequence()) {
    answer([&](auto& out) { protocol::append_text(out, reply); });
    return;
  }
  const std::uint64_t number = open_place();
  queued_bytes_ += reply.size();
  replies_.at(number).held = std::move(reply);
  worker_.await_safe(sequence, *this, number);
}

// First all that was put before and concerns the command goes upstream, then what a restart would replay over it is
// superseded.
Session::Behind Session::wait_for_flush(const Command& command, const Args& args, bool all) {
  tiers::WriteBehind& behind = *shared_.write_behind;
  const std::vector<std::uint32_t>& positions = worker_.positions();
  const auto key_at = [&](std::uint32_t at) { return QueueKey{identity_->database, args[at]}; };
  if (!std::exchange(flush_awaited_, true)) {
    std::uint32_t waits = 0;
    const auto then = [loop = &worker_.loop(), this] { loop->post([this] { end_wait(); }); };
    if (all) {
      waits = behind.queue().await_all(then) ? 1 : 0;
    } else {
      for (const std::uint32_t at : positions) waits += behind.queue().await(key_at(at), then) ? 1 : 0;
    }
    if (waits != 0) {
      begin_wait(waits);
      return Behind::kNotNow;
    }
  }
  std::optional<std::uint64_t> sequence = 0;
  if (protocol::may_write(command) || command.name == "exec") {
    if (all) {
      sequence = behind.supersede_all();
    } else {
      for (const std::uint32_t at : positions) {
        const auto one = sequence ? behind.supersede(key_at(at)) : std::nullopt;
        sequence = one ? std::optional(std::max(*sequence, *one)) : std::nullopt;
      }
    }
  }
  if (sequence && *sequence > behind.safe_sequence()) {
    begin_wait(1);
    worker_.await_safe(*sequence, *this, kStalled);
    return Behind::kNotNow;
  }
  flush_awaited_ = false;
  if (sequence) return Behind::kNotMine;
  answer_error("ERR nearcached: the write-behind log can't be written, and a restart could undo a direct write of this key");
  return Behind::kTaken;
}

bool Session::near_flush(const Args& args) {
  if (args.size() != 2 || !protocol::equal_ignoring_case(args[1], "writes")) {
    answer_error("ERR syntax: NEAR.FLUSH WRITES");
    return true;
  }
  const auto then = [loop = &worker_.loop(), this] { loop->post([this] { end_wait(); }); };
  const bool waits = shared_.write_behind != nullptr && !std::exchange(flush_awaited_, true) &&
                     shared_.write_behind->queue().await_all(then);
  if (waits) {
    begin_wait(1);
    return false;
  }
  flush_awaited_ = false;
  answer([](auto& out) { protocol::append_simple(out, "OK"); });
  return true;
}

void Session::begin_wait(std::uint32_t events) {
  stall_ = Stall::kAsked;
  outside_ += events;
  awaited_ += events;
}

void Session::end_wait() {
  --outside_;
  if (--awaited_ == 0 && stall_ == Stall::kAsked) stall_ = Stall::kNone;
  touched();
}

void Session::on_safe(std::uint64_t number) {
  if (number == kStalled) {
    end_wait();
  } else {
    finish_held(number);
  }
}

}  // namespace nearcached::daemon
