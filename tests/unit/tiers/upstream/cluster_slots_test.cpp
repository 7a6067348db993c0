#include "tiers/upstream/cluster_slots.hpp"

#include <catch2/catch.hpp>
#include <initializer_list>
#include <string>
#include <utility>

namespace nearcached::tiers::upstream {
namespace {

using Type = ControlReply::Type;

const Endpoint kAsked{"10.0.0.9", 7000};
const Endpoint kUnix{"/tmp/redis.sock", 0};

ControlReply number(std::int64_t value) { return {Type::kInteger, value, {}, {}}; }
ControlReply text(std::string value) { return {Type::kString, 0, std::move(value), {}}; }
ControlReply status(std::string value) { return {Type::kStatus, 0, std::move(value), {}}; }
ControlReply error(std::string value) { return {Type::kError, 0, std::move(value), {}}; }
ControlReply nil() { return {}; }
ControlReply array(std::initializer_list<ControlReply> elements) { return {Type::kArray, 0, {}, elements}; }
ControlReply node(ControlReply host, std::int64_t port) { return array({std::move(host), number(port), text("id")}); }
ControlReply range(std::int64_t first, std::int64_t last, ControlReply primary) {
  return array({number(first), number(last), std::move(primary), node(text("10.0.0.8"), 9)});
}

std::vector<SlotRange> slots_of(const ControlReply& reply, const Endpoint& asked = kAsked) {
  return parse_cluster_slots(reply, asked).value();
}

}  // namespace

TEST_CASE("ranges name their primary, replicas are passed over", "[cluster_slots]") {
  const auto ranges = slots_of(array({range(0, 99, node(text("10.0.0.1"), 1)), range(16383, 16383, node(text("h"), 2))}));
  CHECK(ranges == std::vector<SlotRange>{{0, 99, {"10.0.0.1", 1}}, {16383, 16383, {"h", 2}}});
}

TEST_CASE("a node that does not know its own host is the address that was asked", "[cluster_slots]") {
  CHECK(slots_of(array({range(0, 1, node(nil(), 6))}))[0].primary == Endpoint{"10.0.0.9", 6});
  CHECK(slots_of(array({range(0, 1, node(text(""), 6))}))[0].primary == Endpoint{"10.0.0.9", 6});
  CHECK(slots_of(array({range(0, 1, node(text(""), 6))}), kUnix)[0].primary == kUnix);
}

TEST_CASE("a host that is a question mark is found in the metadata, or left out", "[cluster_slots]") {
  const auto with_ip = array({text("?"), number(6), text("id"), array({text("ip"), text("10.0.0.7")})});
  CHECK(slots_of(array({range(0, 1, with_ip)}))[0].primary == Endpoint{"10.0.0.7", 6});
  const auto without_ip = array({text("?"), number(6), text("id"), array({text("hostname"), text("h"), text("ip")})});
  CHECK(slots_of(array({range(0, 1, without_ip)})).empty());
}

TEST_CASE("a port of zero is left out and never taken for a unix socket", "[cluster_slots]") {
  CHECK(slots_of(array({range(0, 1, node(text("10.0.0.1"), 0)), range(2, 2, node(text("b"), 3))})) ==
        std::vector<SlotRange>{{2, 2, {"b", 3}}});
}

TEST_CASE("an answer that is not CLUSTER SLOTS is refused as a whole", "[cluster_slots]") {
  const auto good = node(text("a"), 1);
  CHECK(slots_of(array({})).empty());
  CHECK_FALSE(parse_cluster_slots(nil(), kAsked));
  CHECK_FALSE(parse_cluster_slots(error("ERR no"), kAsked));
  CHECK_FALSE(parse_cluster_slots(array({number(1)}), kAsked));
  CHECK_FALSE(parse_cluster_slots(array({array({number(0), number(1)})}), kAsked));
  CHECK_FALSE(parse_cluster_slots(array({range(-1, 5, good)}), kAsked));
  CHECK_FALSE(parse_cluster_slots(array({range(0, 16384, good)}), kAsked));
  CHECK_FALSE(parse_cluster_slots(array({range(6, 5, good)}), kAsked));
  CHECK_FALSE(parse_cluster_slots(array({range(0, 5, good), range(5, 6, good)}), kAsked));
  CHECK_FALSE(parse_cluster_slots(array({range(0, 5, node(text("a"), 65536))}), kAsked));
  CHECK_FALSE(parse_cluster_slots(array({range(0, 5, node(number(1), 1))}), kAsked));
  CHECK_FALSE(parse_cluster_slots(array({range(0, 5, array({text("a")}))}), kAsked));
  CHECK_FALSE(parse_cluster_slots(array({array({text("0"), number(1), good})}), kAsked));
}

TEST_CASE("slots that nobody serves have no node", "[cluster_slots]") {
  const auto topology = make_cluster_topology({{0, 4, {"a", 1}}, {6, 6, {"b", 1}}}, "7.0.15", nullptr);
  CHECK(topology.cluster);
  CHECK(topology.version == 1);
  CHECK(topology.server_version == "7.0.15");
  CHECK(*topology.node_of(4) == Endpoint{"a", 1});
  CHECK(topology.node_of(5) == nullptr);
  CHECK(*topology.node_of(6) == Endpoint{"b", 1});
  CHECK(topology.node_of(16383) == nullptr);
  CHECK(covered_slots(topology) == 6);
}

TEST_CASE("primaries that stay keep their place and new ones fill the gaps", "[cluster_slots]") {
  const Endpoint a{"a", 1}, b{"b", 1}, c{"c", 1}, d{"d", 1}, e{"e", 1};
  const auto first = make_cluster_topology({{0, 0, a}, {1, 1, b}, {2, 2, c}}, "", nullptr);
  const auto replaced = make_cluster_topology({{0, 0, d}, {1, 1, c}, {2, 2, a}}, "", &first);
  CHECK(replaced.primaries == std::vector<Endpoint>{a, d, c});
  CHECK(replaced.version == 2);
  CHECK(*replaced.node_of(0) == d);
  CHECK(*replaced.node_of(1) == c);
  CHECK(*replaced.node_of(2) == a);
  const auto grown = make_cluster_topology({{0, 0, e}, {1, 1, b}, {2, 2, a}, {3, 3, d}}, "", &replaced);
  CHECK(grown.primaries == std::vector<Endpoint>{a, d, e, b});
  const auto shrunk = make_cluster_topology({{0, 3, b}}, "", &grown);
  CHECK(shrunk.primaries == std::vector<Endpoint>{b});
  CHECK(*shrunk.node_of(0) == b);
}

TEST_CASE("the same answer in another order is the same topology", "[cluster_slots]") {
  const Endpoint a{"a", 1}, b{"b", 1};
  const auto first = make_cluster_topology({{0, 0, a}, {1, 1, b}}, "7", nullptr);
  CHECK(same_topology(first, make_cluster_topology({{1, 1, b}, {0, 0, a}}, "7", &first)));
  CHECK_FALSE(same_topology(first, make_cluster_topology({{0, 0, b}, {1, 1, a}}, "7", &first)));
  CHECK_FALSE(same_topology(first, make_cluster_topology({{0, 0, a}}, "7", &first)));
  CHECK_FALSE(same_topology(first, make_cluster_topology({{0, 0, a}, {1, 1, b}}, "8", &first)));
}

TEST_CASE("the version is Redis's own name for it, on Valkey too", "[cluster_slots]") {
  CHECK(parse_server_version(text("# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.1.0\r\n")) == "7.2.4");
  CHECK(parse_server_version(text("valkey_version:9.0.0\r\n")) == "9.0.0");
  CHECK(parse_server_version(text("")).empty());
  CHECK(parse_server_version(error("redis_version:1")).empty());
}

TEST_CASE("COMMAND INFO of a known command", "[cluster_slots]") {
  const auto entry = array({text("object"), number(-2), array({status("readonly"), status("movablekeys")}), number(2),
                            number(-1), number(1), array({}), array({})});
  const auto info = parse_command_info(array({entry}));
  REQUIRE(info);
  CHECK(info->known);
  CHECK(info->name == "object");
  CHECK(info->arity == -2);
  CHECK(info->flags == std::vector<std::string>{"readonly", "movablekeys"});
  CHECK(info->first_key == 2);
  CHECK(info->last_key == -1);
  CHECK(info->key_step == 1);
}

TEST_CASE("COMMAND INFO of an unknown command is an answer, anything else is none", "[cluster_slots]") {
  REQUIRE(parse_command_info(array({nil()})));
  CHECK_FALSE(parse_command_info(array({nil()}))->known);
  const auto flags = array({});
  CHECK_FALSE(parse_command_info(nil()));
  CHECK_FALSE(parse_command_info(error("NOAUTH Authentication required.")));
  CHECK_FALSE(parse_command_info(array({})));
  CHECK_FALSE(parse_command_info(array({nil(), nil()})));
  CHECK_FALSE(parse_command_info(array({array({text("get"), number(2), flags, number(1), number(1)})})));
  CHECK_FALSE(parse_command_info(array({array({text("get"), number(40000), flags, number(1), number(1), number(1)})})));
  CHECK_FALSE(parse_command_info(array({array({text("get"), number(2), nil(), number(1), number(1), number(1)})})));
  CHECK_FALSE(parse_command_info(array({array({nil(), number(2), flags, number(1), number(1), number(1)})})));
}

}  // namespace nearcached::tiers::upstream
