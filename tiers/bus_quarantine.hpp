// Keys of writes whose outcome nobody knows, until nothing can come of them any more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>

#include "tiers/bus_publisher.hpp"
#include "tiers/near_cache.hpp"
#include "tiers/upstream/router.hpp"

namespace nearcached::tiers {

struct BusQuarantineOptions {
  std::int64_t hold_us = 3'000'000;  // after which a write that timed out, or lost its connection, is not executed any more
};

// With tracking the upstream says when such a write lands. On the bus the writer must: its keys are published with the write
// or as soon as its connection is back, and once more after hold_us; until then their fences stay open, so that this process
// keeps nothing of them. At most kKeysMax are held by name; beyond it, and for writes whose keys are not known, it is all
// keys.
//
// Bad at: a write that lands later than hold_us because the node itself was stopped for longer (docs/bus_protocol.md).
// Confined to its worker, which it must not outlive.
class BusQuarantine final : public upstream::ReplySink {
 public:
  static constexpr std::size_t kKeysMax = 1024;

  BusQuarantine(BusQuarantineOptions options, CommandLookup learned, NearCache& cache, upstream::Router& router,
                upstream::IdentityPtr identity, insight::Counters& counters);
  ~BusQuarantine();

  // The request's keys.
  void hold(std::string_view request, std::int64_t now_us);
  void tick(std::int64_t now_us);
  [[nodiscard]] std::size_t held() const { return keys_.size() + announcing_.size() + (all_until_us_ == 0 ? 0 : 1); }

 private:
  struct Key {
    std::string key;
    std::uint64_t hash = 0;
    std::int64_t until_us = 0;
  };
  static constexpr std::uint64_t kAll = 0;  // token; keys have tokens from 1

  void on_reply(std::uint64_t, std::string_view, bool) override {}
  void on_failure(std::uint64_t token, std::string_view, bool) override { end(token); }
  void on_rerouted(std::uint64_t) override {}
  void on_published(std::uint64_t token, bool, std::string_view) override { end(token); }

  void hold_all(std::int64_t until_us);
  void announce(const Key& key, std::int64_t now_us);
  void announce_all(std::int64_t now_us);
  void end(std::uint64_t token);

  const BusQuarantineOptions options_;
  WrittenKeys written_;
  NearCache& cache_;
  upstream::Router& router_;
  insight::Counters& counters_;
  upstream::Router::Lane& lane_;
  std::deque<Key> keys_;                               // in the order in which their time ends
  std::int64_t all_until_us_ = 0;                      // 0: not all keys are held
  std::map<std::uint64_t, std::uint64_t> announcing_;  // token -> hash
  std::uint64_t last_token_ = 0;
};

}  // namespace nearcached::tiers
