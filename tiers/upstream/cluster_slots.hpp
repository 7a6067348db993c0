// Replies of the control link, read as values: CLUSTER SLOTS, CLUSTER INFO, INFO, COMMAND INFO.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tiers/upstream/cluster_nodes.hpp"
#include "tiers/upstream/control_plane.hpp"
#include "tiers/upstream/control_reply.hpp"
#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::upstream {

// A contiguous range of slots and its primary. Source: https://redis.io/docs/latest/commands/cluster-slots/
struct SlotRange {
  std::uint16_t first = 0, last = 0;  // inclusive, first <= last < kSlotCount
  Endpoint primary;
  friend bool operator==(const SlotRange&, const SlotRange&) = default;
};

// nullopt: not an answer to CLUSTER SLOTS, or one with a slot out of range, overlapping ranges, or a bad port. An empty
// vector is an answer too: the node knows no slots. A nil or empty host stands for `asked` (all of it, if that is a unix
// socket). A host of "?" (hostnames preferred, none announced) is replaced by the "ip" of the metadata; a range where that
// is missing too, or whose port is 0 (a server that speaks only TLS), is left out: nobody can be asked for it. Replicas are
// passed over.
[[nodiscard]] std::optional<std::vector<SlotRange>> parse_cluster_slots(const ControlReply& reply, const Endpoint& asked);

// The snapshot behind `previous` (may be null): its version grown by one. Primaries that stay keep their place in the list,
// new ones take the places of those that left, so that an index rarely changes its meaning.
[[nodiscard]] Topology make_cluster_topology(const std::vector<SlotRange>& ranges, std::string server_version,
                                             const Topology* previous);

// Equal but for the version.
[[nodiscard]] bool same_topology(const Topology& a, const Topology& b);

// How many slots have an owner.
[[nodiscard]] std::size_t covered_slots(const Topology& topology);

// "7.0.15" from the text of INFO server: redis_version (Valkey gives the Redis version it is compatible with), else
// valkey_version; empty if neither is there.
[[nodiscard]] std::string parse_server_version(const ControlReply& reply);

// The answer to COMMAND INFO with one name. nullopt: not such an answer. Only the first six fields are looked at.
[[nodiscard]] std::optional<CommandInfo> parse_command_info(const ControlReply& reply);

}  // namespace nearcached::tiers::upstream
