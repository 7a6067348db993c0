#include "tiers/bus_quarantine.hpp"

#include <algorithm>
#include <utility>

#include "protocol/key_slot.hpp"
#include "protocol/writer.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::tiers {

BusQuarantine::BusQuarantine(BusQuarantineOptions options, CommandLookup learned, NearCache& cache, upstream::Router& router,
                             upstream::IdentityPtr identity, insight::Counters& counters)
    : options_(options),
      written_(std::move(learned)),
      cache_(cache),
      router_(router),
      counters_(counters),
      lane_(router.attach(identity, protocol::RespVersion::kResp2)) {}

BusQuarantine::~BusQuarantine() { router_.detach(lane_, io::boot_us()); }

void BusQuarantine::hold(std::string_view request, std::int64_t now_us) {
  const std::int64_t until_us = now_us + options_.hold_us;
  if (!written_.find(request)) {
    hold_all(until_us);
    return;
  }
  for (const std::string_view key : written_.keys()) {
    const std::uint64_t hash = l1::hash_key(key);
    if (keys_.size() < kKeysMax) {
      keys_.push_back({std::string(key), hash, until_us});
      cache_.begin_write(hash, counters_);
    } else {
      hold_all(until_us);
    }
  }
}

void BusQuarantine::hold_all(std::int64_t until_us) {
  if (all_until_us_ == 0) cache_.begin_write_all();
  all_until_us_ = std::max(all_until_us_, until_us);
}

void BusQuarantine::tick(std::int64_t now_us) {
  while (!keys_.empty() && keys_.front().until_us <= now_us) {
    const Key key = std::move(keys_.front());
    keys_.pop_front();
    announce(key, now_us);
  }
  if (all_until_us_ != 0 && now_us >= all_until_us_) announce_all(now_us);
}

void BusQuarantine::announce(const Key& key, std::int64_t now_us) {
  std::string request;
  protocol::append_command(request, {"DEL", key.key});
  upstream::RequestMeta meta;
  meta.sink = this;
  meta.token = ++last_token_;
  meta.slot = router_.topology()->cluster ? protocol::key_slot(key.key) : 0;
  meta.announce = meta.only_announce = true;
  announcing_.emplace(meta.token, key.hash);
  router_.send(lane_, meta, request, now_us);
}

void BusQuarantine::announce_all(std::int64_t now_us) {
  std::string request;
  protocol::append_command(request, {"FLUSHALL"});
  for (std::size_t i = 0; i < router_.topology()->primaries.size(); ++i) {
    upstream::RequestMeta meta;
    meta.sink = this;
    meta.token = kAll;
    meta.announce = meta.only_announce = true;
    router_.send_to(lane_, i, meta, request, now_us);
  }
  all_until_us_ = 0;
  cache_.end_write_all(counters_);
}

// Also if it could not be announced: then the connection is lost or refuses, and the silence of its stream says the rest.
void BusQuarantine::end(std::uint64_t token) {
  const auto announced = announcing_.find(token);
  if (announced == announcing_.end()) return;
  cache_.end_write(announced->second, io::boot_us(), counters_);
  announcing_.erase(announced);
}

}  // namespace nearcached::tiers
