#include "tiers/upstream/cluster_slots.hpp"

#include <algorithm>
#include <bitset>
#include <limits>
#include <map>
#include <utility>

namespace nearcached::tiers::upstream {
namespace {

using Type = ControlReply::Type;

std::optional<std::uint16_t> slot_number(const ControlReply& reply) {
  if (reply.type != Type::kInteger || reply.integer < 0 || reply.integer >= protocol::kSlotCount) return std::nullopt;
  return static_cast<std::uint16_t>(reply.integer);
}

// The metadata of a node (Redis 7): a flat array of names and values behind host, port and id.
std::string_view metadata_ip(const ControlReply& node) {
  if (node.elements.size() < 4 || node.elements[3].type != Type::kArray) return {};
  const auto& pairs = node.elements[3].elements;
  for (std::size_t i = 0; i + 1 < pairs.size(); i += 2) {
    if (pairs[i].text == "ip") return pairs[i + 1].text;
  }
  return {};
}

bool is_node(const ControlReply& node) {
  if (node.type != Type::kArray || node.elements.size() < 2) return false;
  const ControlReply& host = node.elements[0];
  const ControlReply& port = node.elements[1];
  if (host.type != Type::kNil && !host.is_text()) return false;
  return port.type == Type::kInteger && port.integer >= 0 && port.integer <= std::numeric_limits<std::uint16_t>::max();
}

// nullopt: nobody can connect to it.
std::optional<Endpoint> endpoint_of(const ControlReply& node, const Endpoint& asked) {
  std::string_view host = node.elements[0].text;
  const auto port = static_cast<std::uint16_t>(node.elements[1].integer);
  if (host.empty() && asked.is_unix()) return asked;
  if (host.empty()) host = asked.host;
  if (host == "?") host = metadata_ip(node);
  if (host.empty() || port == 0) return std::nullopt;
  return Endpoint{std::string(host), port};
}

std::optional<std::int16_t> small_number(const ControlReply& reply) {
  using Limits = std::numeric_limits<std::int16_t>;
  if (reply.type != Type::kInteger || reply.integer < Limits::min() || reply.integer > Limits::max()) return std::nullopt;
  return static_cast<std::int16_t>(reply.integer);
}

// The list of `wanted` with those of `previous` at their old places as far as the length allows.
std::vector<Endpoint> in_stable_order(std::vector<Endpoint> wanted, const Topology* previous) {
  if (previous == nullptr) return wanted;
  std::vector<Endpoint> fresh;
  for (const Endpoint& endpoint : wanted) {
    if (std::ranges::find(previous->primaries, endpoint) == previous->primaries.end()) fresh.push_back(endpoint);
  }
  std::vector<Endpoint> ordered;
  auto next_fresh = fresh.begin();
  for (const Endpoint& endpoint : previous->primaries) {
    if (std::ranges::find(wanted, endpoint) != wanted.end()) {
      ordered.push_back(endpoint);
    } else if (next_fresh != fresh.end()) {
      ordered.push_back(*next_fresh++);
    }
  }
  ordered.insert(ordered.end(), next_fresh, fresh.end());
  return ordered;
}

std::vector<Endpoint> distinct_primaries(const std::vector<SlotRange>& ranges) {
  std::vector<Endpoint> primaries;
  std::map<Endpoint, bool> seen;
  for (const SlotRange& range : ranges) {
    if (seen.emplace(range.primary, true).second) primaries.push_back(range.primary);
  }
  return primaries;
}

}  // namespace

std::optional<std::vector<SlotRange>> parse_cluster_slots(const ControlReply& reply, const Endpoint& asked) {
  if (reply.type != Type::kArray) return std::nullopt;
  std::bitset<protocol::kSlotCount> seen;
  std::vector<SlotRange> ranges;
  for (const ControlReply& element : reply.elements) {
    if (element.type != Type::kArray || element.elements.size() < 3 || !is_node(element.elements[2])) return std::nullopt;
    const auto first = slot_number(element.elements[0]);
    const auto last = slot_number(element.elements[1]);
    if (!first || !last || *first > *last) return std::nullopt;
    for (std::size_t slot = *first; slot <= *last; ++slot) {
      if (seen[slot]) return std::nullopt;
      seen.set(slot);
    }
    auto primary = endpoint_of(element.elements[2], asked);
    if (primary) ranges.push_back({*first, *last, *std::move(primary)});
  }
  return ranges;
}

Topology make_cluster_topology(const std::vector<SlotRange>& ranges, std::string server_version, const Topology* previous) {
  Topology topology;
  topology.cluster = true;
  topology.version = previous == nullptr ? 1 : previous->version + 1;
  topology.server_version = std::move(server_version);
  topology.primaries = in_stable_order(distinct_primaries(ranges), previous);
  topology.owner.fill(Topology::kNoNode);

  std::map<Endpoint, std::uint16_t> index_of;
  for (const Endpoint& primary : topology.primaries) index_of.emplace(primary, static_cast<std::uint16_t>(index_of.size()));
  for (const SlotRange& range : ranges) {
    const auto begin = topology.owner.begin();
    std::fill(begin + range.first, begin + range.last + 1, index_of[range.primary]);
  }
  return topology;
}

bool same_topology(const Topology& a, const Topology& b) {
  return a.cluster == b.cluster && a.primaries == b.primaries && a.owner == b.owner && a.server_version == b.server_version;
}

std::size_t covered_slots(const Topology& topology) {
  return topology.owner.size() - static_cast<std::size_t>(std::ranges::count(topology.owner, Topology::kNoNode));
}

std::string parse_server_version(const ControlReply& reply) {
  if (!reply.is_text()) return {};
  const std::string_view version = info_field(reply.text, "redis_version");
  return std::string(version.empty() ? info_field(reply.text, "valkey_version") : version);
}

std::optional<CommandInfo> parse_command_info(const ControlReply& reply) {
  if (reply.type != Type::kArray || reply.elements.size() != 1) return std::nullopt;
  const ControlReply& entry = reply.elements[0];
  CommandInfo info;
  // A command it does not know: nil, or (Redis 6 and older) a nil array, which the reader gives as nil too.
  if (entry.type == Type::kNil) return info;
  if (entry.type != Type::kArray || entry.elements.size() < 6) return std::nullopt;
  const auto arity = small_number(entry.elements[1]);
  const auto first_key = small_number(entry.elements[3]);
  const auto last_key = small_number(entry.elements[4]);
  const auto key_step = small_number(entry.elements[5]);
  const ControlReply& flags = entry.elements[2];
  if (!entry.elements[0].is_text() || flags.type != Type::kArray || !arity || !first_key || !last_key || !key_step) {
    return std::nullopt;
  }
  info.known = true;
  info.name = entry.elements[0].text;
  info.arity = *arity;
  info.first_key = *first_key;
  info.last_key = *last_key;
  info.key_step = *key_step;
  for (const ControlReply& flag : flags.elements) info.flags.push_back(flag.text);
  return info;
}

}  // namespace nearcached::tiers::upstream
