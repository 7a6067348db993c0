// What a data connection does about announcements: with the write, at ticks, and again where the node did not take them.
#include <algorithm>
#include <utility>
#include <vector>

#include "tiers/coherence/rules.hpp"
#include "tiers/io/clock.hpp"
#include "tiers/upstream/data_connection.hpp"

namespace nearcached::tiers::upstream {

using coherence::enforced;
using coherence::Rule;

namespace {

constexpr std::int64_t kAgainStepUs = 50'000;
constexpr std::int64_t kAgainMaxUs = 500'000;

}  // namespace

bool DataConnection::takes(const RequestMeta& meta) const {
  // A write behind ASKING is announced at the slot's owner.
  if (!meta.announce || meta.asking || !announcer_ || state_ != State::kReady) return true;
  return announcer_->able() && refusals_ == 0;
}

std::string DataConnection::why_not() const {
  const std::string why = refusals_ != 0 ? refusal_ : "no channel is known of " + options_.endpoint.text();
  return "ERR nearcached: not written, since other sidecars could not be told: " + why;
}

void DataConnection::enqueue_write(const RequestMeta& meta, std::string_view bytes, std::int64_t now_us) {
  if (!meta.announce || !announcer_ || (meta.asking && !announcer_->able())) {
    enqueue(meta, bytes, Role::kRequest, now_us);
    return;
  }
  follow_channel();
  const bool behind = enforced(Rule::kPublishBehindWrite);
  announcer_->before_write(messages_, now_us);
  enqueue_announcements(now_us);
  if (behind && !meta.only_announce) enqueue(meta, bytes, Role::kRequest, now_us);
  if (!announcer_->behind_write(messages_, bytes, now_us)) {
    if (behind && !meta.only_announce && !meta.asking) {
      pending_.back().unsaid = true;
      return;
    }
    announcer_->behind_reply(messages_, bytes, {}, now_us);
  }
  enqueue_announcements(now_us);
  if (!meta.asking && enforced(Rule::kAnswerAfterPublish)) pending_.back().meta = meta;
  if (!behind && !meta.only_announce) enqueue(meta, bytes, Role::kRequest, now_us);
}

void DataConnection::enqueue_announcements(std::int64_t now_us) {
  for (const std::string& message : messages_) enqueue({}, message, Role::kAnnouncement, now_us);
  messages_.clear();
}

// The oldest request is answered, and its reply shows what there is to say of it.
void DataConnection::announce_answered(std::string_view error, std::int64_t now_us) {
  Pending& head = pending_.front();
  if (!std::exchange(head.unsaid, false)) return;
  const RequestMeta meta = head.meta;
  const bool awaited = meta.sink != nullptr && enforced(Rule::kAnswerAfterPublish);
  if (refusals_ != 0 || !announcer_->able()) {
    announcer_->unanswered();
    if (awaited) owe(meta);
    return;
  }
  const std::string request(stream_.out().view().substr(0, head.bytes));
  announcer_->behind_reply(messages_, request, error, now_us);
  const bool something = !messages_.empty();
  enqueue_announcements(now_us);
  if (!awaited) return;
  if (something) {
    pending_.back().meta = meta;
  } else {
    meta.sink->on_published(meta.token, true, {});
  }
}

void DataConnection::announced() {
  const std::uint64_t pays = pending_.front().pays;
  ReplySink* const sink = pending_.front().meta.sink;
  const std::uint64_t token = pending_.front().meta.token;
  announcer_->acknowledged();
  counters_.bus_published.add();
  if (pays != 0) {
    refusals_ = 0;
    const auto paid = std::find_if(owed_.begin(), owed_.end(), [&](const Owed& owed) { return owed.number >= pays; });
    const std::vector<Owed> told(owed_.begin(), paid);
    owed_.erase(owed_.begin(), paid);
    for (const Owed& owed : told) owed.meta.sink->on_published(owed.meta.token, true, {});
  }
  if (sink != nullptr) sink->on_published(token, true, {});
}

void DataConnection::announcement_refused(std::string_view error, std::int64_t now_us) {
  counters_.bus_publish_failures.add();
  if (!announcer_->refused()) return;
  owe_all();
  ++refusals_;
  refusal_ = error;
  again_at_us_ = now_us + std::min(kAgainStepUs * refusals_, kAgainMaxUs);
  owner_.on_refused_announcement(*this, error);
}

void DataConnection::owe_all() {
  for (std::uint64_t n = pending_.first(); n != pending_.next(); ++n) {
    Pending& pending = pending_.at(n);
    if (pending.role != Role::kAnnouncement) continue;
    pending.pays = 0;
    if (pending.meta.sink != nullptr) owe(std::exchange(pending.meta, {}));
  }
}

// The request's announcements concern nobody any more.
void DataConnection::disown(std::uint64_t number, const RequestMeta& meta) {
  if (!meta.announce) return;
  const auto same = [&](const RequestMeta& other) { return other.sink == meta.sink && other.token == meta.token; };
  for (++number; pending_.holds(number) && pending_.at(number).role == Role::kAnnouncement; ++number) {
    if (same(pending_.at(number).meta)) pending_.at(number).meta = {};
  }
  std::erase_if(owed_, [&](const Owed& owed) { return same(owed.meta); });
}

void DataConnection::announce_again(std::int64_t now_us) {
  if (!announcer_ || !announcer_->owes() || now_us < again_at_us_) return;
  announcer_->again(messages_, now_us);
  if (messages_.empty()) return;
  enqueue_announcements(now_us);
  pending_.back().pays = owed_next_;
}

void DataConnection::set_topology(const Topology& topology) {
  if (!announcer_) return;
  if (announcer_->set_topology(topology, io::boot_us())) owe_all();
  again_at_us_ = 0;
}

void DataConnection::follow_channel() {
  if (!announcer_->moved()) return;
  owe_all();
  again_at_us_ = 0;
}

void DataConnection::tick_announcements(std::int64_t now_us) {
  if (!announcer_) return;
  follow_channel();
  announcer_->tick(messages_, now_us);
  enqueue_announcements(now_us);
  announce_again(now_us);
}

void DataConnection::farewell(std::int64_t now_us) {
  if (!announcer_ || state_ != State::kReady) return;
  // A stream of which something is still to be said does not end in peace.
  for (std::uint64_t n = pending_.first(); n != pending_.next(); ++n) {
    if (pending_.at(n).unsaid) return;
  }
  announcer_->farewell(messages_, now_us);
  enqueue_announcements(now_us);
  flush();
}

void DataConnection::expire_owed(std::int64_t now_us) {
  std::vector<RequestMeta> late;
  std::erase_if(owed_, [&](const Owed& owed) {
    if (owed.meta.deadline_us > now_us) return false;
    late.push_back(owed.meta);
    return true;
  });
  const std::string why = refusals_ != 0 ? refusal_ : "timeout: the connection to " + options_.endpoint.text() + " was lost";
  for (const RequestMeta& meta : late) meta.sink->on_published(meta.token, false, why);
}

}  // namespace nearcached::tiers::upstream
