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

// A user of the upstream, as (user, password) that it accepted, in one of its databases. Each has its own upstream
// connections, which greet with both, and its own entries in L1: what one may read says nothing about another, and a key of
// one database nothing about its namesakes. Fences and invalidations name keys alone and so hold for all identities: the
// upstream does not say which database a change was in. `id` is never used twice in a process.
struct Identity {
  std::uint32_t id = 0;
  Credentials credentials;
  std::uint32_t database = 0;
  mutable std::atomic<std::uint32_t> clients{0};      // sessions that are this identity now
  mutable std::atomic<bool> database_allowed{false};  // the upstream has taken this user's SELECT of it

  Identity(std::uint32_t number, Credentials who, std::uint32_t which = 0)
      : id(number), credentials(std::move(who)), database(which) {}
};
// Of the credentials and the database in the configuration. 0, because L1 keeps entries of realm 0 smaller.
inline constexpr std::uint32_t kConfiguredIdentity = 0;
using IdentityPtr = std::shared_ptr<const Identity>;

// The identities in use, and some that were: a client that comes back finds its connections and its L1 still warm.
// Bounded: when full, the identity that was used longest ago and that no client is any more goes; if all are in use there is
// no room. Threading: any.
class IdentityRegistry {
 public:
  IdentityRegistry(std::size_t identities_max, const Credentials& configured, std::uint32_t database);

  // What clients are before they say who they are.
  [[nodiscard]] const IdentityPtr& configured() const { return configured_; }
  // Also of those that no client is at the moment.
  [[nodiscard]] std::size_t size();
  // nullptr: nobody has obtained it, or not for long.
  [[nodiscard]] IdentityPtr known(const Credentials& credentials, std::uint32_t database);
  // nullptr: limits.identities are all in use.
  [[nodiscard]] IdentityPtr obtain(const Credentials& credentials, std::uint32_t database);

 private:
  // With mutex_ held; it is then the one used last.
  [[nodiscard]] IdentityPtr find(const Credentials& credentials, std::uint32_t database);

  const std::size_t identities_max_;
  const IdentityPtr configured_;
  std::mutex mutex_;
  std::vector<IdentityPtr> known_;                   // guarded by mutex_, the least recently used first
  std::uint32_t next_id_ = kConfiguredIdentity + 1;  // guarded by mutex_
};

}  // namespace nearcached::tiers::upstream
