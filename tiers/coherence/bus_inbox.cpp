#include "tiers/coherence/bus_inbox.hpp"

#include <algorithm>

#include "tiers/coherence/rules.hpp"

namespace nearcached::tiers::coherence {
namespace {

bool is_numbered(const BusMessage& message) { return message.kind != BusKind::kHeartbeat && message.kind != BusKind::kBye; }

}  // namespace

BusInbox::Action BusInbox::action_of(BusKind kind) {
  switch (kind) {
    case BusKind::kInvalidate: return Action::kKeys;
    case BusKind::kPrefix: return Action::kPrefix;
    case BusKind::kTag:
    case BusKind::kNamespace: return Action::kAll;
    case BusKind::kHeartbeat:
    case BusKind::kBye:
    case BusKind::kLost: break;
  }
  return Action::kNothing;
}

void BusInbox::subscribed(std::int64_t now_us) {
  clear();
  subscribed_us_ = now_us;
}

void BusInbox::clear() {
  streams_.clear();
  ended_.clear();
  by_name_.clear();
  subscribed_us_ = crowd_heard_us_ = kNever;
  settled_ = false;
}

BusInbox::Outcome BusInbox::on_message(std::string_view payload, std::int64_t as_of_us) {
  ++stats_.messages;
  const BusDecoded decoded = decode_bus_message(payload, message_);
  if (decoded != BusDecoded::kGood) {
    ++(decoded == BusDecoded::kOtherVersion ? stats_.other_version : stats_.damaged);
    if (!enforced(Rule::kBusGap)) return {};
    return {.gap = true, .action = Action::kAll, .keys = {}, .text = {}};
  }
  if (message_.publisher == options_.publisher) {
    ++stats_.own;
    return {};
  }
  bool gap = follow(as_of_us);
  if (message_.kind == BusKind::kLost && close_lost()) gap = true;
  return {gap && enforced(Rule::kBusGap), action_of(message_.kind), message_.keys, message_.text};
}

// Takes the message as the next of its stream; true if it is not.
bool BusInbox::follow(std::int64_t as_of_us) {
  const auto found = by_name_.find({message_.publisher, message_.epoch});
  if (found == by_name_.end()) return join(as_of_us);
  Stream& stream = *found->second;
  const std::uint64_t due = stream.seen + (is_numbered(message_) ? 1 : 0);
  const std::uint64_t number = is_numbered(message_) ? message_.sequence : message_.last_sequence;
  const bool gap = number != due;
  if (gap) ++stats_.gaps_sequence;
  stream.seen = number;
  if (stream.ended) return gap;  // what its connection had still on the way
  stream.heard_us = as_of_us;
  streams_.splice(streams_.end(), streams_, found->second);
  if (message_.kind == BusKind::kBye) end(found->second);
  return gap;
}

bool BusInbox::join(std::int64_t as_of_us) {
  const std::uint64_t number = is_numbered(message_) ? message_.sequence : message_.last_sequence;
  const bool gap = number != 0 && settled_;
  if (gap) ++stats_.gaps_sequence;
  if (message_.kind == BusKind::kBye) return gap;
  if (streams_.size() == kStreamsMax) {
    ++stats_.gaps_crowded;
    crowd_heard_us_ = as_of_us;
    return true;
  }
  streams_.push_back({{message_.publisher, message_.epoch}, number, as_of_us, false});
  by_name_.emplace(streams_.back().name, std::prev(streams_.end()));
  return gap;
}

// True if the stream that broke had published what was not heard here.
bool BusInbox::close_lost() {
  const Name name{message_.publisher, message_.lost_epoch};
  const auto found = by_name_.find(name);
  const bool known = found != by_name_.end();
  // Before we have settled, a stream that is not known may have ended before we subscribed; the settling covers the rest.
  const bool gap = known ? found->second->seen < message_.last_sequence : message_.last_sequence != 0 && settled_;
  if (gap) ++stats_.gaps_lost;
  if (known) {
    found->second->seen = std::max(found->second->seen, message_.last_sequence);
    if (!found->second->ended) end(found->second);
  }
  return gap;
}

// Its silence means nothing any more.
void BusInbox::end(Streams::iterator stream) {
  stream->ended = true;
  ended_.splice(ended_.end(), streams_, stream);
  if (ended_.size() > kEndedMax) forget(ended_, ended_.begin());
}

void BusInbox::forget(Streams& from, Streams::iterator stream) {
  by_name_.erase(stream->name);
  from.erase(stream);
}

bool BusInbox::tick(std::int64_t now_us) {
  bool gap = false;
  if (!settled_ && subscribed_us_ != kNever && now_us - subscribed_us_ >= options_.silence_us) settled_ = gap = true;
  if (crowd_heard_us_ != kNever && now_us - crowd_heard_us_ >= options_.silence_us) {
    crowd_heard_us_ = kNever;
    ++stats_.gaps_silence;
    gap = true;
  }
  while (!streams_.empty() && now_us - streams_.front().heard_us >= options_.silence_us) {
    forget(streams_, streams_.begin());
    ++stats_.gaps_silence;
    gap = true;
  }
  return gap && enforced(Rule::kBusSilence);
}

std::int64_t BusInbox::sound_until_us() const {
  std::int64_t first = std::numeric_limits<std::int64_t>::max() - options_.silence_us;
  if (!enforced(Rule::kBusSilence)) return first;
  if (!settled_ && subscribed_us_ != kNever) first = subscribed_us_;
  if (crowd_heard_us_ != kNever) first = std::min(first, crowd_heard_us_);
  if (!streams_.empty()) first = std::min(first, streams_.front().heard_us);
  return first + options_.silence_us;
}

}  // namespace nearcached::tiers::coherence
