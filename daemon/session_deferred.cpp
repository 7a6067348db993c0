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
using tiers::SafePoint;
using tiers::Safety;
using tiers::write_behind::DeferrableWrite;
using tiers::write_behind::KnownKey;
using tiers::write_behind::Priority;
using tiers::write_behind::QueueKey;
using tiers::write_behind::WritePtr;
using tiers::write_behind::WriteQueue;

namespace {

constexpr std::string_view kMayBeUndone =
    "ERR nearcached: the write-behind log can't be written, and a restart could undo a write of this key";

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
  const bool at_ease = !pinned_ || pinned_->at_ease();
  if (at_ease && !all && may_defer()) {
    if (reads_by_key(command, args)) return Behind::kNotMine;  // take_pending()
    const Behind done = protocol::may_write(command) ? defer(command, args) : answer_pending(command, args);
    if (done == Behind::kTaken) flush_awaited_ = false;
    if (done != Behind::kNotMine) return done;
  }
  return wait_for_flush(command, args, all);
}

// After a restart nobody but the configured user has a password.
bool Session::may_defer() const { return identity_->credentials == shared_.identities.configured()->credentials; }

// An earlier command of this client must neither come behind what it is told or writes now, nor see it.
bool Session::own_is_under_way(std::string_view key) {
  if (forwarded_.empty() && filling_.empty()) return false;
  const std::uint64_t hash = tiers::l1::hash_key(key);
  if (!forwarded_.contains(hash) && !filling_.contains(hash)) return false;
  stall_ = Stall::kUntilEmpty;
  return true;
}

Session::Behind Session::defer(const Command& command, const Args& args) {
  if (tiers::write_behind::depends_on_key(command.name, args)) return defer_dependent(command, args);
  const auto writes = tiers::write_behind::deferrable_writes(command.name, args, unix_ms());
  bool durable = false;
  for (const DeferrableWrite& one : writes) {
    const Durability durability = shared_.cache.policies().of(one.key).durability;
    if (durability == Durability::kImmediate) return Behind::kNotMine;
    durable |= durability == Durability::kDeferred;
  }
  if (writes.empty()) return Behind::kNotMine;
  for (const DeferrableWrite& one : writes) {
    if (own_is_under_way(one.key)) return Behind::kNotNow;
  }
  SafePoint point;
  for (const DeferrableWrite& one : writes) {
    const WriteQueue::PutResult put = put_off(one.key, one.write, std::nullopt);
    if (put.put == WriteQueue::Put::kFull) return wait_for_room();
    // What was put before it is flushed ahead of the whole command.
    if (put.put != WriteQueue::Put::kAccepted) return Behind::kNotMine;
    point = {put.sequence, point.in_log_only || put.older_logged};
  }
  answer_when_safe(durable ? point : SafePoint(), "+OK\r\n");
  return Behind::kTaken;
}

Session::Behind Session::defer_dependent(const Command& command, const Args& args) {
  const std::string_view key = args[1];
  const Policy& policy = shared_.cache.policies().of(key);
  if (policy.durability == Durability::kImmediate) return Behind::kNotMine;
  if (own_is_under_way(key)) return Behind::kNotNow;
  for (;;) {
    const std::int64_t now_ms = unix_ms();
    const auto pending = shared_.write_behind->queue().find({identity_->database, key});
    const auto cached = pending ? std::nullopt : exists_in_l1(key, policy);
    if (!pending && !cached) return Behind::kNotMine;
    const KnownKey known{pending ? pending->write.get() : nullptr, pending ? pending->write->there(now_ms) : *cached};
    const auto change = tiers::write_behind::dependent_write(command.name, args, known, now_ms);
    if (!change) return Behind::kNotMine;
    SafePoint point = pending ? safe_after(key, *pending) : SafePoint();
    if (change->write) {
      const WriteQueue::PutResult put = put_off(key, change->write, pending ? pending->sequence : 0);
      if (put.put == WriteQueue::Put::kChanged) continue;  // by another client, at this very moment
      if (put.put == WriteQueue::Put::kFull) return wait_for_room();
      if (put.put != WriteQueue::Put::kAccepted) return Behind::kNotMine;
      point = {policy.durability == Durability::kDeferred ? put.sequence : 0, put.older_logged};
    }
    const std::string reply = change->number ? ":" + std::to_string(*change->number) + "\r\n" : "+OK\r\n";
    answer_when_safe(point, reply);
    return Behind::kTaken;
  }
}

std::optional<bool> Session::exists_in_l1(std::string_view key, const Policy& policy) const {
  if (!shared_.cache.enabled() || policy.consistency == tiers::Consistency::kStrict) return std::nullopt;
  const auto found = shared_.cache.find({tiers::l1::hash_key(key), identity_->id, key}, {}, policy, heard_us_, now_us_);
  if (!found.reply || found.stale) return std::nullopt;
  return found.reply->packed || found.reply->bytes != "_\r\n";
}

WriteQueue::PutResult Session::put_off(std::string_view key, const WritePtr& write, std::optional<std::uint64_t> follows) {
  const std::uint16_t slot = slot_of(key);
  const std::uint16_t owner = worker_.router().topology()->owner[slot];
  const std::uint16_t node = owner == tiers::upstream::Topology::kNoNode ? std::uint16_t{0} : owner;
  const Priority priority = shared_.cache.policies().of(key).priority;
  const auto put = shared_.write_behind->put({{identity_->database, key}, node, priority, write, follows}, now_us_);
  if (put.put != WriteQueue::Put::kAccepted) return put;
  // It counts as dirty by now: no fill will be kept. What was kept before goes.
  shared_.cache.on_read_past(tiers::l1::hash_key(key));
  note_written(slot);
  full_since_us_ = 0;
  return put;
}

// Backpressure first: what waits leaves at once, and makes room. Who has waited in vain goes through until there is room.
Session::Behind Session::wait_for_room() {
  constexpr std::int64_t kRoomUs = 100'000;
  if (full_since_us_ == 0) full_since_us_ = now_us_;
  if (now_us_ - full_since_us_ >= kRoomUs) return Behind::kNotMine;
  stall_ = Stall::kCongested;  // asks again at the next tick
  worker_.remember_congested(*this);
  return Behind::kNotNow;
}

Session::Behind Session::answer_pending(const Command& command, const Args& args) {
  const std::vector<std::uint32_t>& positions = worker_.positions();
  if (positions.size() != 1) return Behind::kNotMine;
  const std::string_view key = args[positions[0]];
  const auto pending = shared_.write_behind->queue().find({identity_->database, key});
  if (!pending) return Behind::kNotMine;
  if (own_is_under_way(key)) return Behind::kNotNow;
  const SafePoint point = safe_after(key, *pending);
  if (shared_.write_behind->safety(point) == Safety::kNever) return Behind::kNotMine;
  std::string reply;
  if (!tiers::write_behind::append_pending_reply(reply, command.name, args, *pending->write, unix_ms(), version_)) {
    return Behind::kNotMine;
  }
  worker_.counters().pending_reads.add();
  answer_when_safe(point, std::move(reply));
  return Behind::kTaken;
}

// Nobody is told what a crash may take back.
SafePoint Session::safe_after(std::string_view key, const WriteQueue::Pending& pending) const {
  const bool durable = shared_.cache.policies().of(key).durability == Durability::kDeferred;
  return durable ? SafePoint{pending.sequence, pending.older_logged} : SafePoint();
}

Session::Behind Session::take_pending(std::string_view key, KeyRead& read) {
  if (shared_.write_behind == nullptr || !may_defer()) return Behind::kNotMine;
  const auto pending = shared_.write_behind->queue().find({identity_->database, key});
  if (!pending) return Behind::kNotMine;
  if (own_is_under_way(key)) return Behind::kNotNow;
  const SafePoint point = safe_after(key, *pending);
  const Safety safety = shared_.write_behind->safety(point);
  if (safety == Safety::kNotYet) {
    await_safe(point);
    return Behind::kNotNow;
  }
  if (safety == Safety::kNever) {
    // The upstream will have it: it is read there.
    const auto then = [loop = &worker_.loop(), this] { loop->post([this] { end_wait(); }); };
    if (!shared_.write_behind->queue().await({identity_->database, key}, then)) return Behind::kNotMine;
    begin_wait(1);
    return Behind::kNotNow;
  }
  std::string& unpacked = worker_.unpacked();
  read.unpacked_at = unpacked.size();
  static_cast<void>(
      tiers::write_behind::append_pending_reply(unpacked, "get", {"get", key}, *pending->write, unix_ms(), version_));
  read.unpacked = unpacked.size() - read.unpacked_at;
  read.way = KeyRead::Way::kHit;
  read.pending = true;
  return Behind::kTaken;
}

void Session::answer_when_safe(SafePoint point, std::string reply) {
  if (shared_.write_behind->safety(point) == Safety::kSafe) {
    answer([&](auto& out) { protocol::append_text(out, reply); });
    return;
  }
  const std::uint64_t number = open_place();
  queued_bytes_ += reply.size();
  replies_.at(number).held = std::move(reply);
  worker_.await_safe(point, *this, number);
}

// The command at hand comes again then.
void Session::await_safe(SafePoint point) {
  begin_wait(1);
  worker_.await_safe(point, *this, kStalled);
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
  const SafePoint point{sequence.value_or(0), true};
  const Safety safety = sequence ? behind.safety(point) : Safety::kNever;
  if (safety == Safety::kNotYet) {
    await_safe(point);
    return Behind::kNotNow;
  }
  flush_awaited_ = false;
  if (safety == Safety::kSafe) return Behind::kNotMine;
  answer_error(kMayBeUndone);
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

void Session::on_safe(std::uint64_t number, bool safe) {
  if (number == kStalled) {
    end_wait();
    return;
  }
  if (!safe) {
    std::string& held = replies_.at(number).held;
    queued_bytes_ -= held.size();
    held.clear();
    protocol::append_error(held, kMayBeUndone);
    queued_bytes_ += held.size();
  }
  finish_held(number);
}

}  // namespace nearcached::daemon
