// SCAN over the nodes of a cluster: the cursor says which node is at hand.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tiers/upstream/topology.hpp"

namespace nearcached::daemon {

// What a client holds between two calls, as one decimal number: the node's own cursor, which node of the primaries in their
// order by address, and a mark of that set of primaries. 0 is the beginning and the end. Any sidecar before the same cluster
// makes, and understands, the same cursors, also after a restart. When the set has changed, a cursor is not understood any
// more: going on would leave out the keys of a node that nobody has asked. What moves between two nodes that stay is the
// client's risk, as it is for one that asks each node itself.
//
// Bad at: node cursors of 2^42 and more, which a table of that many buckets would have; make() refuses them.
struct ScanCursor {
  static constexpr unsigned kNodeBits = 10;  // a cluster has 1,000 nodes at most
  static constexpr unsigned kMarkBits = 12;
  static constexpr unsigned kNodeCursorBits = 64 - kNodeBits - kMarkBits;

  std::size_t primary = 0;  // index into the topology's primaries
  std::uint64_t node_cursor = 0;

  // Where the call with that cursor goes. Nothing: no cursor, or one of another set of primaries (`error` says it, without
  // '-').
  [[nodiscard]] static std::optional<ScanCursor> parse(std::string_view text, const tiers::upstream::Topology& topology,
                                                       std::string_view& error);
  // The cursor that the client gets when the node answered with this one; empty: it can't be expressed.
  [[nodiscard]] static std::string make(std::size_t primary, std::string_view node_cursor,
                                        const tiers::upstream::Topology& topology);
};

}  // namespace nearcached::daemon
