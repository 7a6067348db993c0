// The settings of keys as the near cache has them.
#pragma once

#include "config/settings.hpp"
#include "tiers/policies.hpp"

namespace nearcached::config {

// With what a namespace does not give taken from coherence and l1.
[[nodiscard]] tiers::Policies make_policies(const Settings& settings);

}  // namespace nearcached::config
