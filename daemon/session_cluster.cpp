// Session: what spans the nodes of a cluster, and the sidecar as a cluster of one.
#include <algorithm>
#include <optional>

#include "daemon/gather.hpp"
#include "daemon/scan_cursor.hpp"
#include "daemon/session.hpp"
#include "daemon/shared.hpp"
#include "daemon/worker.hpp"
#include "protocol/ascii_case.hpp"
#include "protocol/key_slot.hpp"
#include "tiers/io/socket.hpp"

namespace nearcached::daemon {
namespace {

using protocol::Handling;
using tiers::upstream::Endpoint;
using tiers::upstream::Topology;

constexpr std::string_view kLastSlot = "16383";

// What a client in cluster mode is told of this sidecar.
struct OnlyNode {
  std::string host;
  std::uint16_t port = 0;
  std::string id;  // 40 hexadecimal digits, the same as long as the address is
};

OnlyNode only_node(int fd, const std::vector<Endpoint>& listeners) {
  OnlyNode node;
  const std::string name = tiers::io::local_name(fd);
  if (const std::size_t colon = name.rfind(':'); colon != std::string::npos) {
    node.host = name.substr(0, colon);
    if (node.host.starts_with('[')) node.host = node.host.substr(1, node.host.size() - 2);
    node.port = tiers::io::local_port(fd);
  } else {
    const auto tcp = std::find_if(listeners.begin(), listeners.end(), [](const Endpoint& e) { return !e.is_unix(); });
    if (tcp != listeners.end()) node = {tcp->host, tcp->port, {}};
  }
  constexpr std::uint64_t kPrime = 0x100000001b3u;
  constexpr char kDigits[] = "0123456789abcdef";
  constexpr std::size_t kIdLength = 40;
  std::uint64_t hash = 0xcbf29ce484222325u;
  const std::string seed = node.host + ":" + std::to_string(node.port);
  while (node.id.size() < kIdLength) {
    for (const char c : seed) hash = (hash ^ static_cast<unsigned char>(c)) * kPrime;
    node.id += kDigits[hash >> 60];
  }
  return node;
}

template <class Sink>
void append_slots(Sink& out, const OnlyNode& node) {
  protocol::append_header(out, '*', 1);
  protocol::append_header(out, '*', 3);
  protocol::append_integer(out, 0);
  protocol::append_integer(out, protocol::kSlotCount - 1);
  protocol::append_header(out, '*', 4);
  protocol::append_bulk(out, node.host);
  protocol::append_integer(out, node.port);
  protocol::append_bulk(out, node.id);
  protocol::append_header(out, '*', 0);
}

template <class Sink>
void append_shards(Sink& out, const OnlyNode& node, bool resp3) {
  const auto map = [&](std::int64_t pairs) { protocol::append_header(out, resp3 ? '%' : '*', resp3 ? pairs : 2 * pairs); };
  const auto text = [&](std::string_view name, std::string_view value) {
    protocol::append_bulk(out, name);
    protocol::append_bulk(out, value);
  };
  const auto number = [&](std::string_view name, std::int64_t value) {
    protocol::append_bulk(out, name);
    protocol::append_integer(out, value);
  };
  protocol::append_header(out, '*', 1);
  map(2);
  protocol::append_bulk(out, "slots");
  protocol::append_header(out, '*', 2);
  protocol::append_integer(out, 0);
  protocol::append_integer(out, protocol::kSlotCount - 1);
  protocol::append_bulk(out, "nodes");
  protocol::append_header(out, '*', 1);
  map(7);
  text("id", node.id);
  number("port", node.port);
  text("ip", node.host);
  text("endpoint", node.host);
  text("role", "master");
  number("replication-offset", 0);
  text("health", "online");
}

std::string nodes_text(const OnlyNode& node) {
  constexpr unsigned kBusOffset = 10000;
  return node.id + " " + node.host + ":" + std::to_string(node.port) + "@" + std::to_string(node.port + kBusOffset) +
         " myself,master - 0 0 1 connected 0-" + std::string(kLastSlot) + "\n";
}

constexpr std::string_view kClusterInfo =
    "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\n"
    "cluster_slots_fail:0\r\ncluster_known_nodes:1\r\ncluster_size:1\r\ncluster_current_epoch:1\r\ncluster_my_epoch:1\r\n"
    "cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\ntotal_cluster_links_buffer_limit_exceeded:0\r\n";

}  // namespace

bool Session::scan(const Command& command, const Args& args) {
  const tiers::upstream::TopologyPtr topology = worker_.router().topology();
  worker_.positions().clear();
  std::string_view error;
  const std::optional<ScanCursor> cursor = ScanCursor::parse(args[1], *topology, error);
  if (!cursor) {
    answer_error(error);
    return true;
  }
  if (must_wait(args, tiers::upstream::kNoSlot)) return false;
  const std::uint64_t number = open_place();
  Place& place = replies_.at(number);
  touch_keys(place, command, args);
  place.gather = std::make_unique<Gather>(version_, 1, shared_.settings.limits.output_bytes,
                                          [this, topology, at = cursor->primary](std::string& text, const auto&) {
                                            text = ScanCursor::make(at, text, *topology);
                                            if (text.empty())
                                              shut("a node's SCAN cursor is too large to name the node in it");
                                          });
  const std::string node_cursor = std::to_string(cursor->node_cursor);
  Args words = args;
  words[1] = node_cursor;
  std::string bytes;
  protocol::append_command(bytes, words);
  worker_.router().send_to(*lane_, cursor->primary, request(command, make_token(number, 0), tiers::upstream::kNoSlot), bytes,
                           now_us_);
  return true;
}

bool Session::near_upstream(const Args& args) {
  const std::vector<Endpoint>& primaries = worker_.router().topology()->primaries;
  if (args.size() == 1) {
    answer([&](auto& out) {
      protocol::append_header(out, '*', static_cast<std::int64_t>(primaries.size()));
      for (const Endpoint& primary : primaries) protocol::append_bulk(out, primary.text());
    });
    return true;
  }
  if (args.size() == 2) {
    answer_error("ERR wrong number of arguments for 'near.upstream' command");
    return true;
  }
  const auto node =
      std::find_if(primaries.begin(), primaries.end(), [&](const Endpoint& primary) { return primary.text() == args[1]; });
  if (node == primaries.end()) {
    answer_error("ERR nearcached: no primary has the address '" + std::string(args[1].substr(0, 128)) +
                 "'; NEAR.UPSTREAM without arguments lists them");
    return true;
  }
  const Args inner(args.begin() + 2, args.end());
  static constexpr Command kUnknown{"unknown", -1, protocol::kFlagWrite, Handling::kAnyNode, protocol::Merge::kNone, 0, 0, 0,
                                    {},        {}};
  const Command* command = protocol::find_command(inner[0]);
  if (command != nullptr && inner.size() > 1) {
    if (const Command* sub = protocol::find_subcommand(*command, inner[1])) command = sub;
  }
  if (command == nullptr) command = &kUnknown;
  if (refused(*command, inner)) return true;
  const std::string_view name = command->name;
  const bool asks = name == "info" || name == "ping" || name == "client|list" || name.starts_with("slowlog|") ||
                    name.starts_with("latency|") || name.starts_with("memory|");
  if (command->handling == Handling::kDenied) {
    answer_error("NOPERM nearcached: '" + std::string(command->name) + "' is not passed on to the upstream");
    return true;
  }
  if (protocol::needs_own_connection(*command, inner) || (command->handling == Handling::kLocal && !asks)) {
    answer_error("ERR nearcached: '" + std::string(command->name) + "' can't be sent to one node");
    return true;
  }
  std::vector<std::uint32_t>& positions = worker_.positions();
  if (!protocol::extract_keys(*command, inner, positions)) positions.clear();
  if (must_wait(inner, tiers::upstream::kNoSlot)) return false;
  const std::uint64_t number = open_place();
  Place& place = replies_.at(number);
  touch_keys(place, *command, inner);
  const tiers::upstream::RequestMeta meta = request(*command, make_token(number, 0), tiers::upstream::kNoSlot);
  await_publication(place, meta);
  std::string bytes;
  protocol::append_command(bytes, inner);
  worker_.router().send_to(*lane_, static_cast<std::size_t>(node - primaries.begin()), meta, bytes, now_us_);
  return true;
}

bool Session::emulate_cluster(const Command& command, const Args& args) {
  const std::string_view name = command.name;
  const bool resp3 = version_ == protocol::RespVersion::kResp3;
  if (name == "readonly" || name == "readwrite" || name == "asking") {
    answer([](auto& out) { protocol::append_text(out, "+OK\r\n"); });
    return true;
  }
  if (!name.starts_with("cluster|")) return false;
  const OnlyNode node = only_node(stream_.fd(), shared_.settings.listen);
  const std::string_view subcommand = name.substr(8);
  if (subcommand == "slots") {
    answer([&](auto& out) { append_slots(out, node); });
  } else if (subcommand == "shards") {
    answer([&](auto& out) { append_shards(out, node, resp3); });
  } else if (subcommand == "nodes") {
    answer_text(nodes_text(node));
  } else if (subcommand == "info") {
    answer_text(kClusterInfo);
  } else if (subcommand == "myid") {
    answer([&](auto& out) { protocol::append_bulk(out, node.id); });
  } else if (subcommand == "keyslot") {
    answer([&](auto& out) { protocol::append_integer(out, protocol::key_slot(args[2])); });
  } else if (subcommand == "replicas" || subcommand == "slaves") {
    if (args[2] == node.id) {
      answer([&](auto& out) { protocol::append_header(out, '*', 0); });
    } else {
      answer_error("ERR Unknown node " + std::string(args[2].substr(0, 128)));
    }
  } else {
    return false;
  }
  return true;
}

}  // namespace nearcached::daemon
