// On whose behalf something is asked of the upstream.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::upstream {

// A user of the upstream, as (user, password) that it accepted. Each has its own upstream connections and its own entries in
// L1: what one may read says nothing about another. `id` is never used twice in a process.
struct Identity {
  std::uint32_t id = 0;
  Credentials credentials;
  mutable std::atomic<std::uint32_t> clients{0};  // sessions that are this identity now

  Identity(std::uint32_t number, Credentials who) : id(number), credentials(std::move(who)) {}
};
// Of the credentials in the configuration, or of none. 0, because L1 keeps entries of realm 0 smaller.
inline constexpr std::uint32_t kConfiguredIdentity = 0;
using IdentityPtr = std::shared_ptr<const Identity>;

// The identities in use, and some that were: a client that comes back finds its connections and its L1 still warm.
// Bounded: when full, the identity that was used longest ago and that no client is any more goes; if all are in use there is
// no room. Threading: any.
class IdentityRegistry {
 public:
  IdentityRegistry(std::size_t identities_max, const Credentials& configured);

  // What clients are before they say who they are.
  [[nodiscard]] const IdentityPtr& configured() const { return configured_; }
  // nullptr: limits.identities are all in use.
  [[nodiscard]] IdentityPtr obtain(const Credentials& credentials);

 private:
  const std::size_t identities_max_;
  const IdentityPtr configured_;
  std::mutex mutex_;
  std::vector<IdentityPtr> known_;                   // guarded by mutex_, the least recently obtained first
  std::uint32_t next_id_ = kConfiguredIdentity + 1;  // guarded by mutex_
};

}  // namespace nearcached::tiers::upstream
