#include "tiers/upstream/identity.hpp"

#include <algorithm>

namespace nearcached::tiers::upstream {
namespace {

bool is(const Identity& identity, const Credentials& credentials, std::uint32_t database) {
  return identity.database == database && identity.credentials == credentials;
}

}  // namespace

IdentityRegistry::IdentityRegistry(std::size_t identities_max, const Credentials& configured, std::uint32_t database)
    : identities_max_(identities_max),
      configured_(std::make_shared<const Identity>(kConfiguredIdentity, configured, database)) {}

IdentityPtr IdentityRegistry::find(const Credentials& credentials, std::uint32_t database) {
  const auto at = std::find_if(known_.begin(), known_.end(),
                               [&](const IdentityPtr& identity) { return is(*identity, credentials, database); });
  if (at == known_.end()) return nullptr;
  std::rotate(at, at + 1, known_.end());
  return known_.back();
}

std::size_t IdentityRegistry::size() {
  const std::lock_guard lock(mutex_);
  return known_.size() + 1;
}

IdentityPtr IdentityRegistry::known(const Credentials& credentials, std::uint32_t database) {
  if (is(*configured_, credentials, database)) return configured_;
  const std::lock_guard lock(mutex_);
  return find(credentials, database);
}

IdentityPtr IdentityRegistry::obtain(const Credentials& credentials, std::uint32_t database) {
  if (is(*configured_, credentials, database)) return configured_;
  const std::lock_guard lock(mutex_);
  if (IdentityPtr found = find(credentials, database)) return found;
  if (known_.size() + 1 >= identities_max_) {
    const auto unused =
        std::find_if(known_.begin(), known_.end(), [](const IdentityPtr& identity) { return identity->clients == 0; });
    if (unused == known_.end()) return nullptr;
    known_.erase(unused);
  }
  known_.push_back(std::make_shared<const Identity>(next_id_++, credentials, database));
  return known_.back();
}

}  // namespace nearcached::tiers::upstream
