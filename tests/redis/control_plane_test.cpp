// The control plane against real servers: one, and a cluster of three primaries with replicas.
#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/redis/control_servers.hpp"
#include "tiers/upstream/cluster_nodes.hpp"
#include "tiers/upstream/cluster_slots.hpp"

namespace nearcached::test {
namespace {

using namespace std::chrono_literals;
using namespace tiers::upstream;
using Kind = ControlEvent::Kind;

bool complete(const Topology& topology) {
  return topology.primaries.size() == 3 && covered_slots(topology) == 16384 && !topology.server_version.empty();
}

class Cluster {
 public:
  Cluster() {
    for (int i = 0; i < 6; ++i) {
      servers_.emplace_back(std::vector<std::string>{"--cluster-enabled", "yes", "--cluster-node-timeout", "1000"});
    }
    std::string command = "redis-cli --cluster create";
    for (const RedisServer& server : servers_) command += " " + server.endpoint().text();
    shell(command + " --cluster-replicas 1 --cluster-yes");
    await([](RedisServer& server) { return server.cli("cluster info").find("cluster_state:ok") != std::string::npos; });
    await([](RedisServer& server) {
      const std::string role = server.cli("role");
      return role.starts_with("master") || role.find("connected") != std::string::npos;
    });
  }

  std::vector<Endpoint> seeds() {
    std::vector<Endpoint> result;
    for (const RedisServer& server : servers_) result.push_back(server.endpoint());
    return result;
  }

  RedisServer& at(const Endpoint& endpoint) {
    return *std::ranges::find(servers_, endpoint, [](const RedisServer& server) { return server.endpoint(); });
  }

  std::vector<RedisServer>& servers() { return servers_; }

 private:
  void await(const std::function<bool(RedisServer&)>& ready) {
    const auto deadline = std::chrono::steady_clock::now() + Observer::kPatience;
    for (RedisServer& server : servers_) {
      while (!ready(server)) {
        if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("the cluster does not come up");
        std::this_thread::sleep_for(20ms);
      }
    }
  }

  std::vector<RedisServer> servers_;
};

}  // namespace

TEST_CASE("one server: the snapshot comes at once, its version when it is known") {
  if (!redis_installed()) return;
  RedisServer server;
  Observer observer;
  ControlPlaneOptions options{.seeds = {server.endpoint()}, .poll_interval = 50ms};
  auto handler = observer.attach(options);
  ControlPlane plane(options, handler);
  CHECK(plane.topology_age_ms() == -1);
  plane.start();
  REQUIRE(observer.wait_topology(
      [](const Topology& topology) { return topology.server_version.find('.') != std::string::npos; }));
  CHECK(observer.topology()->version == 2);
  CHECK(observer.topology()->primaries == std::vector<Endpoint>{server.endpoint()});
  CHECK(*observer.topology()->node_of(16383) == server.endpoint());
  CHECK(plane.topology_age_ms() >= 0);

  server.kill();
  REQUIRE(observer.wait_event(Kind::kTopologyLost, ""));
  CHECK(observer.wait_event(Kind::kNodeRefused, "refused"));
  server.restart();
  REQUIRE(observer.wait_event(Kind::kTopologyRegained, ""));
  CHECK(observer.snapshots() == 2);
}

TEST_CASE("one server over its unix socket") {
  if (!redis_installed()) return;
  RedisServer server;
  Observer observer;
  ControlPlaneOptions options{.seeds = {{server.unix_path(), 0}}};
  auto handler = observer.attach(options);
  ControlPlane plane(options, handler);
  plane.start();
  REQUIRE(observer.wait_topology([](const Topology& topology) { return !topology.server_version.empty(); }));
  CHECK(auth(plane, {"", "x"}).starts_with("ERR AUTH <password> called without any password configured"));
}

TEST_CASE("AUTH is checked with the upstream and its words are passed on") {
  if (!redis_installed()) return;
  RedisServer server({"--requirepass", "secret"});
  server.cli("-a secret acl setuser ada on '>lovelace one\ntwo' '~*' +@all -debug");
  Observer observer;
  ControlPlaneOptions options{.seeds = {server.endpoint()}, .poll_interval = 50ms};
  auto handler = observer.attach(options);
  ControlPlane plane(options, handler);
  plane.start();
  CHECK(auth(plane, {"", "secret"}).empty());
  CHECK(auth(plane, {"ada", "lovelace one\ntwo"}).empty());
  const std::string refusal = "WRONGPASS invalid username-password pair or user is disabled.";
  CHECK(auth(plane, {"ada", "secret"}) == refusal);
  CHECK(auth(plane, {"", "lovelace"}) == refusal);
  CHECK(auth(plane, {"", ""}) == refusal);

  // The control plane itself has no credentials: it learns them from a client.
  REQUIRE(observer.wait_event(Kind::kAuthRefused, "NOAUTH"));
  CHECK(observer.topology()->server_version.empty());
  plane.learn_credentials({"ada", "lovelace one\ntwo"});
  REQUIRE(observer.wait_topology([](const Topology& topology) { return !topology.server_version.empty(); }));
  CHECK(command_info(plane, "get").info.known);
}

TEST_CASE("SELECT is checked as the user who asks, and the upstream's words are passed on") {
  if (!redis_installed()) return;
  RedisServer server({"--requirepass", "secret", "--databases", "5"});
  server.cli("-a secret acl setuser bound on '>pw' '~*' +@all -select");
  ControlPlane plane({.seeds = {server.endpoint()}, .poll_interval = 50ms}, nullptr);
  plane.start();
  CHECK(select(plane, {"", "secret"}, "4").empty());
  CHECK(select(plane, {"", "secret"}, "5") == "ERR DB index is out of range");
  CHECK(select(plane, {"", "secret"}, "-1") == "ERR DB index is out of range");
  CHECK(select(plane, {"bound", "pw"}, "4").starts_with("NOPERM "));
  CHECK(select(plane, {"", ""}, "4") == "NOAUTH Authentication required.");
  CHECK(select(plane, {"", "wrong"}, "4") == "NOAUTH Authentication required.");
}

TEST_CASE("a server whose user may not use INFO is not lost") {
  if (!redis_installed()) return;
  RedisServer server;
  server.cli("acl setuser ada on '>a' '~*' +@all -info");
  Observer observer;
  ControlPlaneOptions options{.seeds = {server.endpoint()}, .credentials = {"ada", "a"}, .poll_interval = 20ms};
  auto handler = observer.attach(options);
  ControlPlane plane(options, handler);
  plane.start();
  REQUIRE(observer.wait_event(Kind::kAuthRefused, "NOPERM"));
  const auto deadline = std::chrono::steady_clock::now() + Observer::kPatience;
  while (plane.topology_age_ms() < 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  CHECK(plane.topology_age_ms() >= 0);
  CHECK(observer.events().size() == 2);
}

TEST_CASE("COMMAND INFO of any command, of containers too") {
  if (!redis_installed()) return;
  RedisServer server;
  ControlPlane plane({.seeds = {server.endpoint()}}, nullptr);
  plane.start();
  const auto get = command_info(plane, "GeT");
  REQUIRE(get.reached);
  CHECK(get.info.name == "get");
  CHECK(get.info.arity == 2);
  CHECK((get.info.first_key == 1 && get.info.last_key == 1 && get.info.key_step == 1));
  CHECK(std::ranges::find(get.info.flags, "readonly") != get.info.flags.end());
  for (const std::string name : {"xgroup", "object", "memory", "config", "mset", "sort", "xread", "eval"}) {
    INFO(name);
    const auto answer = command_info(plane, name);
    CHECK(answer.reached);
    CHECK(answer.info.known);
    CHECK(answer.info.name == name);
  }
  const auto unknown = command_info(plane, "no.such\r\ncommand");
  CHECK(unknown.reached);
  CHECK_FALSE(unknown.info.known);

  server.kill();
  CHECK_FALSE(command_info(plane, "get").reached);
  CHECK(auth(plane, {"", "x"}).starts_with("ERR nearcached: "));
}

TEST_CASE("a server without cluster where a cluster is expected is told plainly") {
  if (!redis_installed()) return;
  RedisServer server;
  Observer observer;
  ControlPlaneOptions options{.seeds = {server.endpoint()}, .cluster = true};
  auto handler = observer.attach(options);
  ControlPlane plane(options, handler);
  plane.start();
  REQUIRE(observer.wait_event(Kind::kTopologyLost, ""));
  CHECK(observer.wait_event(Kind::kNodeRefused, "server without cluster"));
  CHECK(observer.topology() == nullptr);
}

TEST_CASE("a cluster: failover, resharding and lost seeds are followed") {
  if (!redis_installed()) return;
  Cluster cluster;
  Observer observer;
  // A seed by name, whose first address (::1) may be one where nobody listens.
  ControlPlaneOptions options{.seeds = {{"localhost", cluster.seeds()[5].port}}, .cluster = true, .poll_interval = 100ms};
  auto handler = observer.attach(options);
  ControlPlane plane(options, handler);
  plane.start();
  REQUIRE(observer.wait_topology(complete));
  const TopologyPtr before = observer.topology();

  SECTION("the view of a node about itself agrees with the topology") {
    for (RedisServer& server : cluster.servers()) {
      const auto view = parse_own_view(server.cli("cluster nodes") + "\n");
      REQUIRE(view);
      const auto at = std::ranges::find(before->primaries, server.endpoint());
      REQUIRE((view->role == NodeRole::kPrimary) == (at != before->primaries.end()));
      for (std::uint16_t slot = 0; slot < protocol::kSlotCount; ++slot) {
        REQUIRE(view->owned[slot] == (*before->node_of(slot) == server.endpoint()));
      }
    }
  }

  SECTION("a killed primary is replaced by its replica, the others keep their place") {
    const Endpoint victim = before->primaries[1];
    cluster.at(victim).kill();
    for (int i = 0; i < 100; ++i) plane.request_refresh();
    REQUIRE(observer.wait_topology([&](const Topology& topology) {
      return complete(topology) && std::ranges::find(topology.primaries, victim) == topology.primaries.end();
    }));
    const TopologyPtr after = observer.topology();
    CHECK(after->version > before->version);
    CHECK(after->primaries[0] == before->primaries[0]);
    CHECK(after->primaries[2] == before->primaries[2]);
    CHECK(after->owner == before->owner);
    CHECK(auth(plane, {"", "x"}).starts_with("ERR AUTH"));
  }

  SECTION("slots that move are seen to move, open ones in the node's own view") {
    const Endpoint from = *before->node_of(0);
    const Endpoint to = *before->node_of(16383);
    const std::string from_id = cluster.at(from).cli("cluster myid");
    const std::string to_id = cluster.at(to).cli("cluster myid");
    cluster.at(to).cli("cluster setslot 7 importing " + from_id);
    cluster.at(from).cli("cluster setslot 7 migrating " + to_id);
    CHECK(parse_own_view(cluster.at(from).cli("cluster nodes") + "\n")->migrating == OwnView::SlotSet().set(7));
    CHECK(parse_own_view(cluster.at(to).cli("cluster nodes") + "\n")->importing == OwnView::SlotSet().set(7));
    cluster.at(to).cli("cluster setslot 7 node " + to_id);
    cluster.at(from).cli("cluster setslot 7 node " + to_id);
    REQUIRE(observer.wait_topology([&](const Topology& topology) { return *topology.node_of(7) == to; }));
    CHECK(observer.topology()->primaries == before->primaries);
    CHECK(*observer.topology()->node_of(6) == from);
    CHECK(*observer.topology()->node_of(8) == from);
  }

  SECTION("CLIENT KILL of the link goes unnoticed") {
    for (RedisServer& server : cluster.servers()) server.cli("client kill type normal");
    const auto deadline = std::chrono::steady_clock::now() + 1s;
    while (std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(10ms);
    CHECK(plane.topology_age_ms() < 1000);
    CHECK(observer.snapshots() == 1);
    for (const ControlEvent& event : observer.events()) CHECK(event.kind == Kind::kTopologyChanged);
  }
}

}  // namespace nearcached::test
