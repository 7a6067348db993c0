#include "tiers/upstream/identity.hpp"

#include <algorithm>

namespace nearcached::tiers::upstream {

IdentityRegistry::IdentityRegistry(std::size_t identities_max, const Credentials& configured)
    : identities_max_(identities_max), configured_(std::make_shared<const Identity>(kConfiguredIdentity, configured)) {}

IdentityPtr IdentityRegistry::obtain(const Credentials& credentials) {
  if (credentials == configured_->credentials) return configured_;
  const std::lock_guard lock(mutex_);
  const auto known = std::find_if(known_.begin(), known_.end(),
                                  [&](const IdentityPtr& identity) { return identity->credentials == credentials; });
  if (known != known_.end()) {
    std::rotate(known, known + 1, known_.end());
    return known_.back();
  }
  if (known_.size() + 1 >= identities_max_) {
    const auto unused =
        std::find_if(known_.begin(), known_.end(), [](const IdentityPtr& identity) { return identity->clients == 0; });
    if (unused == known_.end()) return nullptr;
    known_.erase(unused);
  }
  known_.push_back(std::make_shared<const Identity>(next_id_++, credentials));
  return known_.back();
}

}  // namespace nearcached::tiers::upstream
