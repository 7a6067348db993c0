#include "tiers/coherence/bus_outbox.hpp"

#include <utility>

namespace nearcached::tiers::coherence {

std::string BusOutbox::announcement(std::int64_t now_us) {
  spoken_us_ = now_us;  // what follows the write may be said only with its reply: no rest before
  if (open()) return now_us - published_us_ >= options_.heartbeat_us ? say(BusKind::kHeartbeat, now_us) : std::string();
  open_stream(now_us);
  return say(BusKind::kHeartbeat, now_us);
}

void BusOutbox::open_stream(std::int64_t now_us) {
  do {
    epoch_ = epochs_.fetch_add(1, std::memory_order_relaxed) + 1;
  } while (epoch_ == 0);
  sequence_ = 0;
  spoken_us_ = now_us;
}

std::string BusOutbox::invalidate(std::span<const std::string_view> keys, std::int64_t now_us) {
  if (keys.empty() || keys.size() > kBusKeysMax) return purge(BusKind::kNamespace, {}, now_us);
  message_.keys.assign(keys.begin(), keys.end());
  return say(BusKind::kInvalidate, now_us);
}

std::string BusOutbox::purge(BusKind kind, std::string_view text, std::int64_t now_us) {
  message_.text = text;
  return say(kind, now_us);
}

std::string BusOutbox::heartbeat(std::int64_t now_us) {
  if (!open() || now_us - published_us_ < options_.heartbeat_us) return {};
  // A message that is not acknowledged may belong to a write that is not executed: a kBye would be a lie if the connection
  // broke now.
  if (now_us - spoken_us_ >= options_.rest_after_us && awaited_ == 0) return bye(now_us);
  return say(BusKind::kHeartbeat, now_us);
}

std::string BusOutbox::bye(std::int64_t now_us) {
  if (!open()) return {};
  std::string payload = say(BusKind::kBye, now_us);
  epoch_ = 0;
  return payload;
}

// The message, of which the body is set already, with the name and number that the stream gives it.
std::string BusOutbox::say(BusKind kind, std::int64_t now_us) {
  const bool numbered = kind != BusKind::kHeartbeat && kind != BusKind::kBye;
  if (!open()) open_stream(now_us);
  message_.kind = kind;
  message_.publisher = options_.publisher;
  message_.epoch = epoch_;
  if (numbered) {
    message_.sequence = ++sequence_;
    spoken_us_ = now_us;
  } else {
    message_.last_sequence = sequence_;
  }
  published_us_ = now_us;
  std::string payload = encode_bus_message(message_);
  message_.keys.clear();
  message_.text = {};
  message_.sequence = message_.last_sequence = 0;
  message_.lost_epoch = 0;
  remember(payload, numbered);
  return payload;
}

void BusOutbox::remember(const std::string& payload, bool numbered) {
  ++awaited_;
  const bool forgotten = numbered && (published_.size() >= kRememberedMax || remembered_bytes_ > kRememberedBytesMax);
  // What leaves nothing to be published again needs no place of its own.
  const bool plain = !numbered || forgotten;
  if (plain && !published_.empty() && published_.back().epoch == epoch_ && published_.back().payload.empty()) {
    Published& last = published_.back();
    ++last.replies;
    last.forgotten = last.forgotten || forgotten;
    last.sequence = sequence_;
    return;
  }
  published_.push_back({epoch_, sequence_, 1, forgotten, plain ? std::string() : payload});
  remembered_bytes_ += published_.back().payload.size();
}

void BusOutbox::acknowledged() {
  if (skipped_ != 0) {
    --skipped_;
    return;
  }
  if (published_.empty()) return;
  --awaited_;
  Published& first = published_.front();
  if (--first.replies != 0) return;
  acknowledged_ = {first.epoch, first.sequence};
  remembered_bytes_ -= first.payload.size();
  published_.pop_front();
}

// All that is not acknowledged, and the end of the stream.
BusLost BusOutbox::take() {
  BusLost taken;
  const auto add = [&](std::uint32_t epoch) {
    if (!taken.streams.empty() && taken.streams.back().epoch == epoch) return;
    taken.streams.push_back({epoch, acknowledged_.epoch == epoch ? acknowledged_.last_sequence : 0});
  };
  for (Published& published : published_) {
    add(published.epoch);
    taken.everything = taken.everything || published.forgotten;
    if (!published.payload.empty()) taken.payloads.push_back(std::move(published.payload));
  }
  if (open()) add(epoch_);
  published_.clear();
  remembered_bytes_ = 0;
  epoch_ = 0;
  return taken;
}

BusLost BusOutbox::refused() {
  if (skipped_ != 0 || awaited_ == 0) {
    if (skipped_ != 0) --skipped_;
    return {};
  }
  skipped_ = std::exchange(awaited_, 0) - 1;
  return take();
}

BusLost BusOutbox::moved() {
  skipped_ += std::exchange(awaited_, 0);
  BusLost taken = take();
  taken.streams.push_back({0, 1});
  return taken;
}

BusLost BusOutbox::lost() {
  awaited_ = skipped_ = 0;
  BusLost taken = take();
  acknowledged_ = {};
  return taken;
}

std::vector<std::string> BusOutbox::republish(const BusLost& lost, std::int64_t now_us) {
  std::vector<std::string> out;
  if (lost.empty()) return out;
  if (std::string first = announcement(now_us); !first.empty()) out.push_back(std::move(first));
  for (const std::string& payload : lost.payloads) republish_payload(payload, now_us, out);
  if (lost.everything) out.push_back(purge(BusKind::kNamespace, {}, now_us));
  // Behind all the rest: whoever hears these has heard again what the streams left open.
  for (const BusLost::Stream& stream : lost.streams) {
    message_.lost_epoch = stream.epoch;
    message_.last_sequence = stream.last_sequence;
    out.push_back(say(BusKind::kLost, now_us));
  }
  return out;
}

void BusOutbox::republish_payload(std::string_view payload, std::int64_t now_us, std::vector<std::string>& out) {
  BusMessage old;
  if (decode_bus_message(payload, old) != BusDecoded::kGood) return;  // our own encoding: always good
  message_.keys = std::move(old.keys);
  message_.text = old.text;
  message_.lost_epoch = old.lost_epoch;
  message_.last_sequence = old.last_sequence;
  out.push_back(say(old.kind, now_us));
}

}  // namespace nearcached::tiers::coherence
