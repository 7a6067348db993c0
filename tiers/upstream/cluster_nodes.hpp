// What a cluster node says about itself: the texts of CLUSTER NODES and CLUSTER INFO, as values.
// Source: https://redis.io/docs/latest/commands/cluster-nodes/ and .../cluster-info/
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string_view>

#include "protocol/key_slot.hpp"

namespace nearcached::tiers::upstream {

enum class NodeRole : std::uint8_t { kPrimary, kReplica };

// The flags of a node's line beside its role. Flags of servers newer than this program are passed over.
struct NodeFlags {
  bool possibly_failing = false;  // fail?
  bool failing = false;           // fail
  bool handshake = false;         // not yet part of the cluster
  bool no_address = false;        // noaddr
  bool no_failover = false;       // nofailover: a replica that never promotes itself
  friend bool operator==(const NodeFlags&, const NodeFlags&) = default;
};

// The node's own line. It is the only place where a server shows which of its slots are open: CLUSTER SLOTS names one owner
// of a migrating slot and keeps silent about the other. Hence no topology made of CLUSTER SLOTS can answer "may an absent
// key be created elsewhere?", and this can.
struct OwnView {
  using SlotSet = std::bitset<protocol::kSlotCount>;

  NodeRole role = NodeRole::kReplica;
  NodeFlags flags;
  std::uint64_t config_epoch = 0;
  SlotSet owned;      // includes those that are migrating away; a replica owns none
  SlotSet migrating;  // "[slot->-node]": keys that are absent here may exist on the other node
  SlotSet importing;  // "[slot-<-node]": not owned yet
};

// The line flagged "myself" in the whole text of one CLUSTER NODES reply. nullopt if there is no such line or more than one,
// if it has no role, or if any of it is malformed, cut off included (a line that lacks its newline is): whoever trusts the
// view would take a slot that was cut off for closed. Lines of other nodes are not looked at. One pass, no allocation.
[[nodiscard]] std::optional<OwnView> parse_own_view(std::string_view cluster_nodes_text);

enum class ClusterState : std::uint8_t {
  kUnknown,  // the text does not say
  kOk,
  kFail  // the node does not accept queries: slots without owner, or it is in a minority
};

struct ClusterInfo {
  ClusterState state = ClusterState::kUnknown;
  std::uint64_t current_epoch = 0;  // the highest epoch the node has heard of; 0 where the text does not say
};

[[nodiscard]] ClusterInfo parse_cluster_info(std::string_view cluster_info_text);

// The value of the line "name:value" in a text as INFO and CLUSTER INFO give it (lines end with LF or CR LF); empty if there
// is none.
[[nodiscard]] std::string_view info_field(std::string_view text, std::string_view name);

}  // namespace nearcached::tiers::upstream
