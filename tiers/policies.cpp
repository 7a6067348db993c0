#include "tiers/policies.hpp"

#include <utility>

namespace nearcached::tiers {

Policies::Policies(Policy otherwise, std::vector<Policy> namespaces)
    : otherwise_(std::move(otherwise)), namespaces_(std::move(namespaces)), parents_(namespaces_.size()) {
  std::sort(namespaces_.begin(), namespaces_.end(), [](const Policy& a, const Policy& b) { return a.prefix < b.prefix; });
  for (std::size_t i = 0; i < namespaces_.size(); ++i) {
    // Sorted, the prefixes of a prefix stand before it, the longest of them last; what stands between is longer.
    parents_[i] = i;
    for (std::size_t before = i; before > 0 && parents_[i] == i; --before) {
      if (namespaces_[i].prefix.starts_with(namespaces_[before - 1].prefix)) parents_[i] = before - 1;
    }
  }
}

// The last prefix that is not greater than the key is the longest that could match; if it does not, only prefixes of it can.
const Policy& Policies::of(std::string_view key) const noexcept {
  if (namespaces_.empty()) return otherwise_;
  const auto above = std::upper_bound(namespaces_.begin(), namespaces_.end(), key,
                                      [](std::string_view k, const Policy& policy) { return k < policy.prefix; });
  if (above == namespaces_.begin()) return otherwise_;
  for (auto at = static_cast<std::size_t>(above - namespaces_.begin()) - 1;; at = parents_[at]) {
    if (key.starts_with(namespaces_[at].prefix)) return namespaces_[at];
    if (parents_[at] == at) return otherwise_;
  }
}

std::int64_t Policies::max_staleness_min_us() const noexcept {
  std::int64_t least = otherwise_.max_staleness_us;
  for (const Policy& policy : namespaces_) least = std::min(least, policy.max_staleness_us);
  return least;
}

}  // namespace nearcached::tiers
