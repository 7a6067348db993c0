// The rules of tiers/coherence/rules.hpp by name.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tiers/coherence/rules.hpp"

namespace nearcached::sim {

// "fence_at_install" for Rule::kFenceAtInstall.
[[nodiscard]] std::string_view rule_name(tiers::coherence::Rule rule);
[[nodiscard]] std::optional<tiers::coherence::Rule> rule_of(std::string_view name);

}  // namespace nearcached::sim
