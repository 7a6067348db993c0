// On whose behalf something is asked of the upstream.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::upstream {

// A user of the upstream, as (user, password) that it accepted. Each has its own upstream connections and its own entries in
// L1: what one may read says nothing about another. `id` is never used twice in a process.
struct Identity {
  std::uint32_t id = 0;
  Credentials credentials;
};
using IdentityPtr = std::shared_ptr<const Identity>;

// The identities in use, and some that were: a client that comes back finds its connections and its L1 still warm.
// Bounded: when full, the identity that was used longest ago and that no client holds any more goes; if all are held there is
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
  std::vector<IdentityPtr> known_;  // guarded by mutex_, the least recently obtained first
  std::uint32_t next_id_ = 2;       // guarded by mutex_
};

}  // namespace nearcached::tiers::upstream
