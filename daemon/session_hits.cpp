// The run of plain GETs that a client sent in one go and that L1 can answer: what a near cache does most, with nothing else
// on its way. Whatever is not such a GET, or no such hit, is left to dispatch(), which comes to the same answers.
#include "daemon/session.hpp"
#include "daemon/worker.hpp"
#include "protocol/reply_form.hpp"
#include "tiers/insight/counters.hpp"

namespace nearcached::daemon {

using protocol::RespVersion;
using tiers::Consistency;
using tiers::Policy;
using tiers::insight::CommandClass;

namespace {

const protocol::Command& get_command() {
  static const protocol::Command& command = *protocol::find_command("get");
  return command;
}

}  // namespace

// Nothing of what dispatch() does to a command before it looks into L1 would do anything, and no earlier command of this
// client waits for its reply.
bool Session::answers_hits_at_once() const {
  return replies_.empty() && forwarded_.empty() && filling_.empty() && !pinned_ && !monitoring_ && !parser_.mid_command() &&
         stall_ == Stall::kNone && !closing_ && replies_wanted_ == Replies::kOn && taken_us_ == 0 &&
         shared_.cache.enabled() && !shared_.access.has_users() && !shared_.access.denied(get_command()) &&
         !shared_.pause.begun() && !shared_.monitors.watched() &&
         !shared_.over_buffer_budget.load(std::memory_order_relaxed);
}

std::size_t Session::answer_hits(std::string_view bytes) {
  AskedGets& asked = worker_.asked_gets();
  tiers::l1::Store& store = shared_.cache.store();
  std::size_t at = 0;
  std::size_t hits = 0;
  for (bool more = true; more;) {
    std::size_t count = 0;
    for (std::size_t from = at; count < kGetsAtOnce; ++count) {
      AskedGet& next = asked[count];
      if (!protocol::take_plain_get(bytes.substr(from), next.get)) break;
      next.hash = tiers::l1::hash_key(next.get.key);
      store.prefetch(next.hash);
      from += next.get.bytes;
    }
    for (std::size_t i = 0; i < count; ++i) asked[i].entry = store.prefetch_entry(asked[i].hash);
    more = count == kGetsAtOnce;
    for (std::size_t i = 0; i < count; ++i) {
      if (!answer_hit(asked[i], bytes.substr(at, asked[i].get.bytes))) {
        more = false;
        break;
      }
      at += asked[i].get.bytes;
      ++hits;
    }
  }
  if (hits == 0) return 0;
  asked_us_ = 0;
  last_command_ = get_command().name;
  worker_.counters().l1_hits.add(hits);
  worker_.counters().commands[static_cast<std::size_t>(CommandClass::kCachedRead)].add(hits);
  return at;
}

bool Session::answer_hit(const AskedGet& asked, std::string_view raw) {
  const std::string_view key = asked.get.key;
  if (stream_.out().size() >= shared_.settings.limits.output_pause_bytes) return false;
  const Policy& policy = shared_.cache.policies().of(key);
  if (policy.consistency == Consistency::kStrict) return false;
  const tiers::NearCache::Lookup found =
      shared_.cache.find({asked.hash, identity_->id, key}, {}, policy, heard_us_, now_us_, asked.entry);
  if (!found.reply || found.stale) return false;
  if (found.reply->packed) {
    if (!answer_packed(protocol::Resp2Form::kPlain, *found.reply)) return false;
  } else {
    if (version_ == RespVersion::kResp2 && !protocol::same_in_resp2(found.reply->bytes)) return false;
    stream_.out().append(found.reply->bytes);
  }
  if (worker_.audit_due()) sample({key, asked.hash, slot_of(key), raw, {}, get_command().caching}, policy);
  return true;
}

}  // namespace nearcached::daemon
