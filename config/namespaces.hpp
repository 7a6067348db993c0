// The list of namespaces as a key of the schema, and what its values have in common with those of all keys.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "config/key_types.hpp"
#include "config/schema.hpp"

namespace nearcached::config {

inline constexpr std::size_t kPrefixBytesMax = 1024;

// For all keys (coherence, l1) and for those of a namespace alike.
inline constexpr Words<tiers::Consistency, 4> kConsistencyWords{{{"strict", tiers::Consistency::kStrict},
                                                                 {"causal", tiers::Consistency::kCausal},
                                                                 {"bounded", tiers::Consistency::kBounded},
                                                                 {"stale_ok", tiers::Consistency::kStaleOk}}};
inline constexpr Words<tiers::l1::Compression, 3> kCompressionWords{{{"none", tiers::l1::Compression::kNone},
                                                                     {"lz4", tiers::l1::Compression::kLz4},
                                                                     {"zstd", tiers::l1::Compression::kZstd}}};
inline constexpr Words<tiers::Durability, 3> kDurabilityWords{{{"immediate", tiers::Durability::kImmediate},
                                                               {"deferred", tiers::Durability::kDeferred},
                                                               {"eventual", tiers::Durability::kEventual}}};
inline constexpr Words<tiers::write_behind::Priority, 3> kPriorityWords{{{"high", tiers::write_behind::Priority::kHigh},
                                                                         {"normal", tiers::write_behind::Priority::kNormal},
                                                                         {"low", tiers::write_behind::Priority::kLow}}};
inline constexpr Words<bool, 2> kBoolWords{{{"true", true}, {"false", false}}};
inline constexpr Range kCompressionMinBytes{.min = 64, .max = 1024 * 1024};
inline constexpr Range kMaxStaleness{.min = 30, .max = kMinute};
inline constexpr Range kMaxStale{.min = 1, .max = 7 * kDay};
inline constexpr Range kL1Ttl{.min = 1, .max = 7 * kDay};

// One name in the map that is a namespace. Like a Key, but of a Namespace. Immutable; the functions are pure.
struct NamespaceField {
  std::string_view name;
  std::string allowed;
  std::string_view otherwise;  // the key whose value holds where this is not given; empty: it must be given
  std::string_view description;
  std::function<Problem(Namespace&, const Value&)> set;
  std::function<std::string(const Namespace&)> print;  // empty: not given
};

// In the order in which they are documented and printed.
[[nodiscard]] const std::vector<NamespaceField>& namespace_fields();

// "namespaces": a list of maps, each with a prefix and what differs for its keys.
[[nodiscard]] Key namespaces_key();

}  // namespace nearcached::config
