// What holds for a key: the policy of the longest prefix that is configured for it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tiers/l1/compressor.hpp"
#include "tiers/write_behind/write_queue.hpp"

namespace nearcached::tiers {

// How much a hit must be proven (docs/consistency.md).
enum class Consistency : std::uint8_t {
  kStrict,   // never from L1
  kCausal,   // bounded, and after this client heard from elsewhere its hits wait for one probe
  kBounded,  // proven no longer ago than max_staleness
  kStaleOk,  // bounded; while the node can't be reached also what is unverified, up to max_stale
};

// When a write that can be answered before the upstream has it is answered (docs/write_behind.md).
enum class Durability : std::uint8_t {
  kImmediate,  // by the upstream
  kDeferred,   // once it is durable in the local log
  kEventual,   // at once: a crash may lose it
};

struct Policy {
  std::string prefix;  // empty: the default
  Consistency consistency = Consistency::kBounded;
  std::int64_t max_staleness_us = 1'000'000;
  std::int64_t max_stale_us = 60'000'000;  // with kStaleOk: how long ago the last proof of an entry may be
  std::int64_t l1_ttl_us = 300'000'000;    // an entry lives at most this long
  l1::CompressionPolicy compression = {};
  Durability durability = Durability::kImmediate;
  write_behind::Priority priority = write_behind::Priority::kNormal;  // of what waits to be flushed
  std::uint32_t number = 0;                                           // by Policies: 0 is the default's
};

// Immutable. Looked up once per cached read: without namespaces a load and a branch, with them a binary search over sorted
// prefixes. Threading: any.
class Policies {
 public:
  // Prefixes must differ and not be empty, at most kNamespacesMax of them.
  static constexpr std::size_t kNamespacesMax = 1024;
  explicit Policies(Policy otherwise, std::vector<Policy> namespaces = {});

  // Lives as long as *this.
  [[nodiscard]] const Policy& of(std::string_view key) const noexcept {
    return namespaces_.empty() ? otherwise_ : longest_prefix(key);
  }
  [[nodiscard]] const Policy& otherwise() const noexcept { return otherwise_; }
  [[nodiscard]] const std::vector<Policy>& namespaces() const noexcept { return namespaces_; }
  // By Policy::number.
  [[nodiscard]] std::vector<l1::CompressionPolicy> compression() const;
  // The smallest of all policies: how often links must be proven.
  [[nodiscard]] std::int64_t max_staleness_min_us() const noexcept;
  [[nodiscard]] bool any_causal() const noexcept {
    const auto causal = [](const Policy& policy) { return policy.consistency == Consistency::kCausal; };
    return causal(otherwise_) || std::any_of(namespaces_.begin(), namespaces_.end(), causal);
  }

 private:
  [[nodiscard]] const Policy& longest_prefix(std::string_view key) const noexcept;

  Policy otherwise_;
  std::vector<Policy> namespaces_;    // sorted by prefix
  std::vector<std::size_t> parents_;  // by namespace: the longest other one that is a prefix of it, or its own index
};

}  // namespace nearcached::tiers
