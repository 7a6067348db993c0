// The control plane against servers that lie, stall, refuse and talk nonsense.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <optional>

#include "tests/redis/control_servers.hpp"
#include "tiers/upstream/cluster_slots.hpp"

namespace nearcached::test {
namespace {

using namespace std::chrono_literals;
using namespace tiers::upstream;
using Kind = ControlEvent::Kind;

std::string bulk(const std::string& text) { return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n"; }

std::string slots(const std::string& host, int port) {
  return "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n" + bulk(host) + ":" + std::to_string(port) + "\r\n" + bulk("id");
}

// A cluster node whose story can be changed while it tells it.
struct Story {
  std::atomic<bool> failing{false};
  std::atomic<int> epoch{1};
  std::atomic<int> owner_port{1};
  std::atomic<int> told{0};

  std::string operator()(const std::vector<std::string>& command) {
    if (command[0] == "AUTH") return "+OK\r\n";
    if (command[0] == "INFO") return bulk("redis_version:7.0.15\r\n");
    if (command[1] == "SLOTS") {
      ++told;
      return slots("10.0.0.1", owner_port);
    }
    return bulk("cluster_state:" + std::string(failing ? "fail" : "ok") +
                "\r\ncluster_current_epoch:" + std::to_string(epoch) + "\r\n");
  }
};

ScriptedServer::Script tell(Story& story) {
  return [&story](const std::vector<std::string>& command) { return story(command); };
}

std::string silence(const std::vector<std::string>&) { return {}; }

ControlPlaneOptions fast(std::vector<Endpoint> seeds) {
  return {.seeds = std::move(seeds),
          .cluster = true,
          .connect_timeout = 200ms,
          .command_timeout = 200ms,
          .poll_interval = 20ms,
          .refresh_interval_min = 5ms};
}

// A running control plane under observation.
struct Watched {
  explicit Watched(ControlPlaneOptions options) {
    auto handler = observer.attach(options);
    plane.emplace(std::move(options), std::move(handler));
    plane->start();
  }
  bool wait_owner(int port) {
    return observer.wait_topology([&](const Topology& topology) { return topology.node_of(0)->port == port; });
  }

  Observer observer;
  std::optional<ControlPlane> plane;
};

void wait_until(const std::function<bool()>& reached) {
  const auto deadline = std::chrono::steady_clock::now() + Observer::kPatience;
  while (!reached()) {
    if (std::chrono::steady_clock::now() > deadline) FAIL("it never happened");
    std::this_thread::sleep_for(1ms);
  }
}

}  // namespace

TEST_CASE("a node in the fail state is not believed while another may be asked") {
  Story cut_off, healthy;
  cut_off.failing = true;
  cut_off.epoch = 9;
  cut_off.owner_port = 111;
  healthy.owner_port = 222;
  ScriptedServer first(tell(cut_off)), second(tell(healthy));
  Watched watched(fast({first.endpoint(), second.endpoint()}));
  REQUIRE(watched.wait_owner(222));
  CHECK(watched.observer.wait_event(Kind::kNodeRefused, "cluster_state is fail"));
  CHECK(watched.observer.snapshots() == 1);
  CHECK(watched.plane->topology_age_ms() >= 0);
}

TEST_CASE("where all are in the fail state the newest view is taken, but not as a good one") {
  Story older, newer;
  older.failing = newer.failing = true;
  older.epoch = 3;
  older.owner_port = 111;
  newer.epoch = 4;
  newer.owner_port = 222;
  ScriptedServer first(tell(newer)), second(tell(older));
  Watched watched(fast({first.endpoint(), second.endpoint()}));
  REQUIRE(watched.wait_owner(222));
  CHECK(watched.observer.wait_event(Kind::kTopologyLost, "fail"));
  CHECK(watched.plane->topology_age_ms() == -1);
  newer.failing = false;
  CHECK(watched.observer.wait_event(Kind::kTopologyRegained, ""));
  wait_until([&] { return watched.plane->topology_age_ms() >= 0; });
  CHECK(watched.observer.snapshots() == 1);
}

TEST_CASE("a refresh that shows nothing new is followed by one from another node") {
  Story sleeper, awake;
  sleeper.owner_port = 111;
  awake.owner_port = 111;
  ScriptedServer first(tell(sleeper)), second(tell(awake));
  Watched watched(fast({first.endpoint(), second.endpoint()}));
  REQUIRE(watched.wait_owner(111));
  awake.epoch = 2;
  awake.owner_port = 222;
  wait_until([&] {
    watched.plane->request_refresh();
    return watched.observer.topology()->node_of(0)->port == 222;
  });

  // From now on the sleeper is known to be behind: asking it does not turn the topology back.
  const auto slept = [&] {
    const auto events = watched.observer.events();
    return std::ranges::any_of(events,
                               [](const ControlEvent& event) { return event.text == "it is behind: epoch 1, known 2"; });
  };
  wait_until([&] {
    watched.plane->request_refresh();
    return slept();
  });
  CHECK(watched.observer.snapshots() == 2);
}

TEST_CASE("a cluster made anew, with a lower epoch on all nodes, is believed after all were asked") {
  Story only;
  only.epoch = 9;
  only.owner_port = 111;
  ScriptedServer server(tell(only));
  Watched watched(fast({server.endpoint()}));
  REQUIRE(watched.wait_owner(111));
  only.epoch = 1;
  only.owner_port = 222;
  REQUIRE(watched.wait_owner(222));
  for (const ControlEvent& event : watched.observer.events()) CHECK(event.kind != Kind::kTopologyLost);
}

TEST_CASE("answers that can't be relied on make way for the next node at once") {
  const std::string answer = GENERATE(
      as<std::string>(), "-LOADING Redis is loading the dataset in memory\r\n", "*0\r\n", "$-1\r\n", "*1\r\n:1\r\n",
      "hello\r\n", "*1\r\n$-5\r\n", "*2147483647\r\n*1\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
      "*0\r\n*0\r\n*0\r\n*0\r\n", "-NOPERM this user has no permissions to run the 'cluster|slots' command\r\n", "");
  INFO(answer);
  Story healthy;
  healthy.owner_port = 222;
  ScriptedServer bad([&](const std::vector<std::string>& command) {
    return command.back() == "SLOTS" ? answer : bulk("cluster_state:ok\r\ncluster_current_epoch:50\r\n");
  });
  ScriptedServer good(tell(healthy));
  Watched watched(fast({bad.endpoint(), good.endpoint()}));
  REQUIRE(watched.wait_owner(222));
  CHECK(watched.observer.wait_event(Kind::kNodeRefused, ""));
  CHECK(watched.observer.events().front().endpoint == bad.endpoint());
}

TEST_CASE("the longest possible CLUSTER SLOTS is read, one beyond the bound is not") {
  std::string answer = "*16384\r\n";
  for (int slot = 0; slot < 16384; ++slot) {
    const std::string number = ":" + std::to_string(slot) + "\r\n";
    answer += "*5\r\n" + number + number;
    for (const int port : {1 + slot % 2, 3, 4}) {
      answer += "*4\r\n" + bulk("10.0.0.1") + ":" + std::to_string(port) + "\r\n" + bulk(std::string(40, 'a')) + "*2\r\n" +
                bulk("hostname") + bulk(std::string(40, 'h'));
    }
  }
  Story healthy;
  std::atomic<bool> flood{false};
  ScriptedServer server([&](const std::vector<std::string>& command) {
    if (command.back() != "SLOTS") return healthy(command);
    return flood ? "$100000000\r\n" + std::string(17 << 20, 'x') : answer;
  });
  ControlPlaneOptions options = fast({server.endpoint()});
  options.command_timeout = 10s;
  Watched watched(std::move(options));
  REQUIRE(watched.wait_owner(1));
  CHECK(watched.observer.topology()->primaries.size() == 2);
  CHECK(watched.observer.topology()->node_of(16383)->port == 2);
  flood = true;
  CHECK(watched.observer.wait_event(Kind::kNodeRefused, "too long"));
}

TEST_CASE("one topology link is enough for any number of polls") {
  Story story;
  ScriptedServer server(tell(story));
  Watched watched(fast({server.endpoint()}));
  wait_until([&] { return story.told >= 10; });
  CHECK(server.connections() == 1);
  CHECK(watched.observer.snapshots() == 1);
}

TEST_CASE("AUTH goes on to the next node where one refuses the connection or hangs up") {
  Story story;
  std::optional<ScriptedServer> gone(std::in_place, tell(story));
  const Endpoint refused = gone->endpoint();
  gone.reset();
  ScriptedServer good(tell(story));
  ControlPlane plane(fast({refused, good.endpoint()}), nullptr);
  plane.start();
  for (int i = 0; i < 4; ++i) CHECK(auth(plane, {"u", "p"}).empty());
}

TEST_CASE("COMMAND INFO is understood though its tail is nested deeper than hiredis follows") {
  std::string deep = "*1\r\n*7\r\n" + bulk("mod.box") + ":-3\r\n*1\r\n+write\r\n:2\r\n:-1\r\n:1\r\n";
  for (int level = 0; level < 12; ++level) deep += "*1\r\n";
  ScriptedServer server([&](const std::vector<std::string>&) { return deep + ":1\r\n"; });
  ControlPlane plane(fast({server.endpoint()}), nullptr);
  plane.start();
  const auto answer = command_info(plane, "mod.box");
  CHECK(answer.reached);
  CHECK(answer.info.known);
  CHECK(answer.info.name == "mod.box");
  CHECK(answer.info.flags == std::vector<std::string>{"write"});
  CHECK((answer.info.first_key == 2 && answer.info.last_key == -1 && answer.info.key_step == 1));
}

TEST_CASE("only +OK is an accepted AUTH") {
  const std::string answer =
      GENERATE(as<std::string>(), "+QUEUED\r\n", ":1\r\n", "$2\r\nOK\r\n", "$-1\r\n", "*0\r\n", "nonsense\r\n", "");
  INFO(answer);
  ScriptedServer server([&](const std::vector<std::string>&) { return answer; });
  ControlPlane plane(fast({server.endpoint()}), nullptr);
  plane.start();
  CHECK(auth(plane, {"u", "p"}).starts_with("ERR nearcached: "));
}

TEST_CASE("a storm of AUTH checks is bounded, and every one is answered") {
  ScriptedServer server(silence);
  ControlPlane plane(fast({server.endpoint()}), nullptr);
  plane.start();
  constexpr int kStorm = 1400;
  std::atomic<int> refused{0}, answered{0};
  for (int i = 0; i < kStorm; ++i) {
    plane.check_auth({"u", "p"}, [&](const std::string& error) {
      if (error.find("too many questions") != std::string::npos) ++refused;
      ++answered;
    });
  }
  wait_until([&] { return answered == kStorm; });
  CHECK(refused > 0);
  CHECK(refused <= kStorm - 64 - 1024);
  // Twice the limit, since the server sees the old connections end after the new ones come; and the topology's own link.
  CHECK(server.most_open() <= 2 * 64 + 1);
}

TEST_CASE("all who ask for one database as one user share a question, and nobody else's") {
  ScriptedServer server(silence);
  ControlPlane plane(fast({server.endpoint()}), nullptr);
  plane.start();
  constexpr int kHerd = 3000;
  std::atomic<int> refused{0}, answered{0}, again{0};
  for (int i = 0; i < kHerd; ++i) {
    const Credentials who{i % 2 == 0 ? "u" : "v", "p"};
    plane.check_select(who, i % 3 == 0 ? "1" : "2", [&, who](const std::string& error) {
      if (!error.starts_with("ERR nearcached: the upstream could not be asked")) ++refused;
      // The question is over: who asks now asks anew.
      if (answered++ == 0) plane.check_select(who, "1", [&](const std::string&) { ++again; });
    });
  }
  wait_until([&] { return answered == kHerd && again == 1; });
  CHECK(refused == 0);
  CHECK(server.most_open() <= 2 * 4 + 1);  // as above
}

TEST_CASE("stop() returns soon whatever is under way, and nothing is called afterwards") {
  ScriptedServer server(silence);
  // The documentation network: no answer, or unreachable, as the machine has it.
  const Endpoint nowhere{"192.0.2.1", 6379};
  ControlPlaneOptions options = fast({server.endpoint(), nowhere, {"no-such-host.invalid", 1}});
  options.connect_timeout = options.command_timeout = 60s;
  std::atomic<int> calls{0};
  options.on_event = [&](const ControlEvent&) { ++calls; };
  ControlPlane plane(std::move(options), [&](TopologyPtr) { ++calls; });
  plane.start();
  const auto held = std::make_shared<int>(0);
  for (int i = 0; i < 200; ++i) plane.check_auth({"u", "p"}, [&calls, held](const std::string&) { ++calls; });
  wait_until([&] { return server.connections() > 2; });
  const auto before = std::chrono::steady_clock::now();
  plane.stop();
  CHECK(std::chrono::steady_clock::now() - before < 5s);
  const int at_stop = calls;
  plane.check_auth({"u", "p"}, [&calls, held](const std::string&) { ++calls; });
  plane.request_refresh();
  plane.stop();
  CHECK(held.use_count() == 1);
  CHECK(calls == at_stop);
}

TEST_CASE("a control plane that never started stops as well") {
  ControlPlane plane(fast({{"127.0.0.1", 1}}), nullptr);
  plane.request_refresh();
  plane.stop();
  CHECK(plane.topology_age_ms() == -1);
}

TEST_CASE("callbacks may ask again") {
  Story story;
  ScriptedServer server(tell(story));
  std::optional<ControlPlane> plane;
  std::atomic<int> answers{0};
  ControlPlaneOptions options = fast({server.endpoint()});
  plane.emplace(options, [&](TopologyPtr) {
    plane->request_refresh();
    plane->check_auth({"u", "p"}, [&](const std::string& error) {
      if (error.empty()) ++answers;
      plane->check_auth({"v", "p"}, [&](const std::string&) { ++answers; });
    });
  });
  plane->start();
  wait_until([&] { return answers == 2; });
}

}  // namespace nearcached::test
