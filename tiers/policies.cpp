#include "tiers/policies.hpp"

#include <utility>

#include "tiers/l1/assertion.hpp"

namespace nearcached::tiers {
namespace {

std::size_t common_length(std::string_view a, std::string_view b) noexcept {
  const auto ends = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<std::size_t>(ends.first - a.begin());
}

}  // namespace

Policies::Policies(Policy otherwise, std::vector<Policy> namespaces)
    : otherwise_(std::move(otherwise)), namespaces_(std::move(namespaces)) {
  l1::require(namespaces_.size() <= kNamespacesMax, "at most kNamespacesMax namespaces");
  std::sort(namespaces_.begin(), namespaces_.end(), [](const Policy& a, const Policy& b) { return a.prefix < b.prefix; });
  parents_.reserve(namespaces_.size());
  // In this order whatever begins with a prefix follows it at once: `open` are those that the next one can begin with.
  std::vector<std::size_t> open;
  for (std::size_t i = 0; i < namespaces_.size(); ++i) {
    namespaces_[i].number = static_cast<std::uint32_t>(i + 1);
    const std::string& prefix = namespaces_[i].prefix;
    l1::require(!prefix.empty(), "a namespace has a prefix");
    l1::require(i == 0 || namespaces_[i - 1].prefix != prefix, "prefixes of namespaces differ");
    while (!open.empty() && !prefix.starts_with(namespaces_[open.back()].prefix)) open.pop_back();
    parents_.push_back(open.empty() ? i : open.back());
    open.push_back(i);
  }
}

// Every prefix of the key sorts at or before it, and between such a prefix and the key there are only names that begin with
// the prefix. So the last name at or before the key is the answer, or the answer is the longest of its prefixes that reaches
// no further than the key agrees with it: one comparison of bytes, then only lengths.
const Policy& Policies::longest_prefix(std::string_view key) const noexcept {
  const auto behind = std::upper_bound(namespaces_.begin(), namespaces_.end(), key,
                                       [](std::string_view wanted, const Policy& policy) { return wanted < policy.prefix; });
  if (behind == namespaces_.begin()) return otherwise_;
  auto at = static_cast<std::size_t>(behind - namespaces_.begin()) - 1;
  const std::size_t agreed = common_length(namespaces_[at].prefix, key);
  while (namespaces_[at].prefix.size() > agreed) {
    if (parents_[at] == at) return otherwise_;
    at = parents_[at];
  }
  return namespaces_[at];
}

std::vector<l1::CompressionPolicy> Policies::compression() const {
  std::vector<l1::CompressionPolicy> all{otherwise_.compression};
  for (const Policy& policy : namespaces_) all.push_back(policy.compression);
  return all;
}

std::int64_t Policies::max_staleness_min_us() const noexcept {
  std::int64_t smallest = otherwise_.max_staleness_us;
  for (const Policy& policy : namespaces_) smallest = std::min(smallest, policy.max_staleness_us);
  return smallest;
}

}  // namespace nearcached::tiers
