// Where requests go, where they go next, and when they must not go again.
#include "tiers/upstream/router.hpp"

#include <atomic>
#include <catch2/catch.hpp>

#include "tests/mock/scripted_server.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::tiers::upstream {
namespace {

using namespace nearcached::testing;
using protocol::RespVersion;

constexpr std::int64_t kTimeout = 100'000'000;  // far longer than a test takes: only ticks make it pass
constexpr std::int64_t kALittle = 5'000'000;    // more than any wait between two tries

// A router over servers, all in one loop; slot n belongs to servers[n].
struct Bench {
  explicit Bench(std::vector<Endpoint> nodes) {
    options.seeds = nodes;
    options.cluster = true;
    options.command_timeout_us = options.connect_timeout_us = kTimeout;
    options.request_refresh = [this] { ++refreshes; };
    options.on_trouble = [this](const Endpoint&, std::string_view) { ++troubles; };
    router = std::make_unique<Router>(thread.loop, resolver, counters, options);
    auto topology = std::make_shared<Topology>();
    topology->cluster = true;
    topology->version = 1;
    topology->primaries = nodes;
    topology->owner.fill(Topology::kNoNode);
    for (std::uint16_t i = 0; i < nodes.size(); ++i) topology->owner[i] = i;
    router->set_topology(topology);
    thread.loop.on_turn_end([this] { router->flush(); });
    lane = &router->attach(std::make_shared<const Identity>(1u, Credentials{}), RespVersion::kResp2);
    thread.start();
  }
  ~Bench() { thread.stop(); }

  void send(std::uint64_t token, const std::string& bytes, std::uint32_t slot = 0, bool write = false) {
    RequestMeta meta;
    meta.sink = &sink;
    meta.token = token;
    meta.slot = slot;
    meta.write = write;
    thread.call([=, this] { router->send(*lane, meta, bytes, io::boot_us()); });
  }
  void send_to(std::size_t primary, std::uint64_t token, const std::string& bytes) {
    RequestMeta meta;
    meta.sink = &sink;
    meta.token = token;
    thread.call([=, this] { router->send_to(*lane, primary, meta, bytes, io::boot_us()); });
  }
  void tick(std::int64_t later) {
    thread.call([=, this] { router->tick(io::boot_us() + later); });
  }

  LoopThread thread;
  io::Resolver resolver;
  insight::Counters counters;
  Recorder sink;
  std::atomic<int> refreshes{0};
  std::atomic<int> troubles{0};
  RouterOptions options;
  std::unique_ptr<Router> router;
  Router::Lane* lane = nullptr;
};

const std::string kGet = command({"GET", "k"});
const std::string kSet = command({"SET", "k", "v"});
const std::string kTryAgain = "TRYAGAIN Multiple keys request during rehashing of slot";

}  // namespace

TEST_CASE("a request goes to the owner of its slot in its own bytes, and the reply comes back in the node's", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint(), b.endpoint()});
  const std::string odd = "*2\r\n$3\r\nget\r\n$1\r\nk\r\n";
  bench.send(1, odd, 1);
  Peer peer = b.accept();
  CHECK(peer.read_like(odd) == odd);
  peer.send("$-1\r\n");
  CHECK(bench.sink.wait(1).bytes == "$-1\r\n");
  CHECK(a.nobody_waits());
  CHECK(bench.sink.of(1).rerouted == 0);
}

TEST_CASE("MOVED is followed, the client sees none of it, and the topology is asked for anew", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint()});
  bench.send(1, kSet, 0, true);  // a write too: the node said that it did not execute it
  Peer at_a = a.accept();
  CHECK(at_a.read_like(kSet) == kSet);
  at_a.send("-MOVED 0 " + b.address() + "\r\n");
  Peer at_b = b.accept();
  CHECK(at_b.read_like(kSet) == kSet);
  at_b.send("+OK\r\n");
  const Outcome outcome = bench.sink.wait(1);
  CHECK(outcome.bytes == "+OK\r\n");
  CHECK(outcome.rerouted == 1);
  CHECK(bench.refreshes == 1);
  CHECK(bench.counters.redirects_moved.value() == 1);
  CHECK(at_b.quiet());
}

TEST_CASE("a MOVED line that comes in two halves is one, wherever it is cut", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint()});
  bench.send(1000, kGet);
  Peer at_a = a.accept();
  REQUIRE(at_a.read_like(kGet) == kGet);
  const std::string line = "-MOVED 0 " + b.address() + "\r\n";
  at_a.send(line);
  Peer at_b = b.accept();
  REQUIRE(at_b.read_like(kGet) == kGet);
  at_b.send("$-1\r\n");
  REQUIRE(bench.sink.wait(1000).bytes == "$-1\r\n");
  for (std::size_t cut = 1; cut < line.size(); ++cut) {
    CAPTURE(cut);
    bench.send(cut, kGet);
    REQUIRE(at_a.read_like(kGet) == kGet);
    at_a.send(line.substr(0, cut));
    bench.thread.call([] {});
    REQUIRE(bench.sink.of(cut).pieces == 0);
    at_a.send(line.substr(cut));
    REQUIRE(at_b.read_like(kGet) == kGet);
    at_b.send("$1\r\nx\r\n");
    REQUIRE(bench.sink.wait(cut).bytes == "$1\r\nx\r\n");
  }
}

TEST_CASE("MOVED without a host means the host that was asked", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint()});
  bench.send(1, kGet);
  Peer at_a = a.accept();
  REQUIRE(at_a.read_like(kGet) == kGet);
  at_a.send("-MOVED 0 :" + std::to_string(b.endpoint().port) + "\r\n");
  Peer at_b = b.accept();
  CHECK(at_b.read_like(kGet) == kGet);
}

TEST_CASE("ASK sends this one request behind ASKING, and the next one where the slot lives", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint()});
  bench.send(1, kGet);
  Peer at_a = a.accept();
  REQUIRE(at_a.read_like(kGet) == kGet);
  at_a.send("-ASK 0 " + b.address() + "\r\n");
  Peer at_b = b.accept();
  const std::string asking = command({"ASKING"}) + kGet;
  CHECK(at_b.read_like(asking) == asking);
  at_b.send("+OK\r\n$1\r\nx\r\n");
  CHECK(bench.sink.wait(1).bytes == "$1\r\nx\r\n");
  CHECK(bench.refreshes == 0);
  bench.send(2, kGet);
  CHECK(at_a.read_like(kGet) == kGet);
  CHECK(at_b.quiet());
}

TEST_CASE("a request that was asked elsewhere and sent back goes without ASKING", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint()});
  bench.send(1, kGet);
  Peer at_a = a.accept();
  REQUIRE(at_a.read_like(kGet) == kGet);
  at_a.send("-ASK 0 " + b.address() + "\r\n");
  Peer at_b = b.accept();
  REQUIRE(at_b.read_like(command({"ASKING"}) + kGet) == command({"ASKING"}) + kGet);
  at_b.send("+OK\r\n-MOVED 0 " + a.address() + "\r\n");
  CHECK(at_a.read_like(kGet) == kGet);
  at_a.send(":5\r\n");
  CHECK(bench.sink.wait(1).bytes == ":5\r\n");
}

TEST_CASE("what may succeed in a moment is tried again, writes as well", "[router]") {
  for (const char* error :
       {"TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN The cluster is down",
        "LOADING Redis is loading the dataset in memory", "READONLY You can't write against a read only replica."}) {
    CAPTURE(error);
    ScriptedServer a;
    Bench bench({a.endpoint()});
    bench.send(1, kSet, 0, true);
    Peer peer = a.accept();
    REQUIRE(peer.read_like(kSet) == kSet);
    peer.send("-" + std::string(error) + "\r\n");
    REQUIRE(bench.sink.wait_rerouted(1, 1).rerouted == 1);
    bench.tick(0);  // not at once
    CHECK(peer.quiet());
    bench.tick(kALittle);
    CHECK(peer.read_like(kSet) == kSet);
    peer.send("+OK\r\n");
    CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
    CHECK(bench.sink.of(1).ends == 1);
  }
}

TEST_CASE("a request that waits is not overtaken by a later one of its slot, however often it is tried", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint(), b.endpoint()});
  const std::string set2 = command({"SET", "k", "2"});
  bench.send(1, kSet, 0, true);
  Peer peer = a.accept();
  REQUIRE(peer.read_like(kSet) == kSet);
  peer.send("-" + kTryAgain + "\r\n");
  REQUIRE(bench.sink.wait_rerouted(1, 1).rerouted == 1);
  RequestMeta meta;
  meta.sink = &bench.sink;
  meta.token = 2;
  meta.slot = 0;
  meta.write = true;
  // It comes when the first one is about to be tried again: its own turn would be later.
  bench.thread.call([&] { bench.router->send(*bench.lane, meta, set2, io::boot_us() + kALittle); });
  CHECK(peer.quiet());
  bench.tick(kALittle / 2);
  REQUIRE(peer.read_like(kSet) == kSet);
  peer.send("-" + kTryAgain + "\r\n");
  REQUIRE(bench.sink.wait_rerouted(1, 2).rerouted == 2);
  bench.thread.call([] {});
  CHECK(peer.quiet());
  bench.tick(2 * kALittle);
  CHECK(peer.read_like(kSet + set2) == kSet + set2);
  peer.send("+OK\r\n+OK\r\n");
  CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
  CHECK(bench.sink.wait(2).bytes == "+OK\r\n");
  // Other slots are not held up.
  bench.send(3, kGet, 1);
  Peer other = b.accept();
  CHECK(other.read_like(kGet) == kGet);
}

TEST_CASE("requests that were refused together are sent again in their order", "[router]") {
  ScriptedServer a;
  Bench bench({a.endpoint()});
  std::string all;
  std::string refusals;
  for (std::uint64_t token = 1; token <= 20; ++token) {
    const std::string set = command({"SET", "k", std::to_string(token)});
    bench.send(token, set, 0, true);
    all += set;
    refusals += "-" + kTryAgain + "\r\n";
  }
  Peer peer = a.accept();
  REQUIRE(peer.read_like(all) == all);
  peer.send(refusals);
  REQUIRE(bench.sink.wait_rerouted(20, 1).rerouted == 1);
  bench.tick(kALittle);
  CHECK(peer.read_like(all) == all);
}

TEST_CASE("a read behind its client's refused write is read again, whatever it was answered", "[router]") {
  const std::string answer = GENERATE(as<std::string>(), "$3\r\nold\r\n", "-WRONGTYPE not a string\r\n", "$-1\r\n");
  ScriptedServer a;
  Bench bench({a.endpoint()});
  bench.send(1, kSet, 0, true);
  bench.send(2, kGet);
  Peer peer = a.accept();
  REQUIRE(peer.read_like(kSet + kGet) == kSet + kGet);
  peer.send("-" + kTryAgain + "\r\n" + answer);
  REQUIRE(bench.sink.wait_rerouted(2, 1).rerouted == 1);
  bench.tick(kALittle);
  REQUIRE(peer.read_like(kSet + kGet) == kSet + kGet);
  peer.send("+OK\r\n$3\r\nnew\r\n");
  CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
  CHECK(bench.sink.wait(2).bytes == "$3\r\nnew\r\n");
}

TEST_CASE("what does not succeed by the deadline is answered in the upstream's words", "[router]") {
  ScriptedServer a;
  Bench bench({a.endpoint()});
  bench.send(1, kSet, 0, true);
  Peer peer = a.accept();
  for (std::size_t times = 1; times <= 3; ++times) {
    REQUIRE(peer.read_like(kSet) == kSet);
    peer.send("-" + kTryAgain + "\r\n");
    REQUIRE(bench.sink.wait_rerouted(1, times).rerouted == times);
    if (times < 3) bench.tick(kALittle);
  }
  bench.tick(kTimeout + kALittle);
  const Outcome outcome = bench.sink.wait(1);
  CHECK(outcome.error == kTryAgain);
  CHECK_FALSE(outcome.broken);
  CHECK(outcome.bytes.empty());
  CHECK(outcome.ends == 1);
  CHECK(peer.quiet());
}

TEST_CASE("nodes that send a request to each other don't get it for ever", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint()});
  bench.send(1, kGet);
  Peer at_a = a.accept();
  REQUIRE(at_a.read_like(kGet) == kGet);
  at_a.send("-MOVED 0 " + b.address() + "\r\n");
  Peer at_b = b.accept();
  std::size_t sent = 1;
  for (std::size_t turn = 0; turn < 20; ++turn) {
    Peer& here = turn % 2 == 0 ? at_b : at_a;
    REQUIRE(bench.sink.wait_rerouted(1, sent).rerouted == sent);
    bench.thread.call([] {});
    if (here.quiet()) break;
    REQUIRE(here.read_like(kGet) == kGet);
    here.send("-MOVED 0 " + (turn % 2 == 0 ? a : b).address() + "\r\n");
    ++sent;
  }
  CHECK(sent == Router::kRedirectsMax + 1);
  bench.tick(kTimeout + kALittle);
  const std::string error = bench.sink.wait(1).error;
  CHECK(error.substr(0, 16) == "ERR nearcached: ");  // MOVED itself would send the client past us
}

TEST_CASE("other errors are the client's, as they are", "[router]") {
  ScriptedServer a;
  Bench bench({a.endpoint()});
  const std::string errors[] = {"-ERR unknown command 'FOO'\r\n",
                                "-WRONGTYPE Operation against a key\r\n",
                                "-TRYAGAIN says a script\r\n",
                                "-MOVED 5 127.0.0.1:1\r\n",
                                "-MOVED\r\n",
                                "-MOVED 5\r\n",
                                "-ASK 5 nowhere\r\n",
                                "-MOVEDX 5 h:1\r\n",
                                "-\r\n",
                                "-ERR a\rb\r\n"};
  std::uint64_t token = 0;
  bench.send(99, kGet);
  Peer peer = a.accept();
  REQUIRE(peer.read_like(kGet) == kGet);
  peer.send("+OK\r\n");
  for (const std::string& error : errors) {
    CAPTURE(error);
    bench.send(++token, kSet, 0, true);
    REQUIRE(peer.read_like(kSet) == kSet);
    peer.send(error);
    CHECK(bench.sink.wait(token).bytes == error);
    CHECK(bench.sink.of(token).rerouted == 0);
  }
}

TEST_CASE("a request for one node goes to no other, whatever that node says", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint(), b.endpoint()});
  bench.send_to(1, 1, kGet);
  Peer peer = b.accept();
  REQUIRE(peer.read_like(kGet) == kGet);
  const std::string moved = "-MOVED 0 " + a.address() + "\r\n";
  peer.send(moved);
  CHECK(bench.sink.wait(1).bytes == moved);
  bench.send_to(1, 2, kGet);
  REQUIRE(peer.read_like(kGet) == kGet);
  peer.send("-LOADING wait\r\n");
  CHECK(bench.sink.wait(2).bytes == "-LOADING wait\r\n");
  CHECK(a.nobody_waits());
}

TEST_CASE("a write whose bytes left is never sent again, a read is", "[router]") {
  ScriptedServer a;
  Bench bench({a.endpoint()});
  const std::string set2 = command({"SET", "k2", "v"});
  const std::string get2 = command({"GET", "k2"});
  bench.send(1, kSet, 0, true);
  bench.send(2, kGet);
  bench.send(3, set2, 0, true);
  bench.send(4, get2);
  Peer first = a.accept();
  const std::string all = kSet + kGet + set2 + get2;
  REQUIRE(first.read_like(all) == all);
  first.close();
  for (const std::uint64_t token : {1u, 3u}) {
    const Outcome outcome = bench.sink.wait(token);
    CHECK(outcome.error.find("may have taken effect") != std::string::npos);
    CHECK(outcome.error.find(a.address()) != std::string::npos);
    CHECK_FALSE(outcome.broken);
  }
  REQUIRE(bench.sink.wait_rerouted(4, 1).rerouted == 1);
  bench.thread.call([] {});  // the sinks are told first
  CHECK(bench.refreshes >= 1);
  bench.tick(kALittle);
  Peer second = a.accept();
  CHECK(second.read_like(kGet + get2) == kGet + get2);
  second.send("$1\r\nx\r\n$1\r\ny\r\n");
  CHECK(bench.sink.wait(2).bytes == "$1\r\nx\r\n");
  CHECK(bench.sink.wait(4).bytes == "$1\r\ny\r\n");
  bench.tick(kALittle);
  bench.tick(kTimeout + kALittle);
  CHECK(second.quiet());
  for (const std::uint64_t token : {1u, 2u, 3u, 4u}) CHECK(bench.sink.of(token).ends == 1);
}

TEST_CASE("of the writes in a broken connection those go again of which no byte left", "[router]") {
  ScriptedServer a;
  Bench bench({a.endpoint()});
  bench.send(9, kGet);
  Peer first = a.accept();
  REQUIRE(first.read_like(kGet) == kGet);
  first.send("$-1\r\n");
  REQUIRE(bench.sink.wait(9).ends == 1);
  const std::string big = command({"SET", "big", std::string(64u << 20, 'x')});  // more than the kernel holds
  bench.send(1, big, 0, true);
  bench.send(2, kSet, 0, true);
  REQUIRE(first.read(100) == big.substr(0, 100));
  first.close();
  CHECK(bench.sink.wait(1).error.find("may have taken effect") != std::string::npos);
  REQUIRE(bench.sink.wait_rerouted(2, 1).rerouted == 1);
  bench.tick(kALittle);
  Peer second = a.accept();
  CHECK(second.read_like(kSet) == kSet);
  second.send("+OK\r\n");
  CHECK(bench.sink.wait(2).bytes == "+OK\r\n");
  CHECK(bench.sink.of(1).ends == 1);
  CHECK(second.quiet());
}

TEST_CASE("a sink that asks for something from inside its failure brings no write to be sent again", "[router]") {
  ScriptedServer a;
  Bench bench({a.endpoint()});
  const std::string set2 = command({"SET", "k2", "v"});
  bench.sink.when_failed = [&](std::uint64_t token) {
    if (token != 1) return;
    RequestMeta meta;
    meta.sink = &bench.sink;
    meta.token = 3;
    meta.slot = 0;
    bench.router->send(*bench.lane, meta, kGet, io::boot_us() + kALittle);
  };
  bench.send(1, kSet, 0, true);
  bench.send(2, set2, 0, true);
  Peer first = a.accept();
  REQUIRE(first.read_like(kSet + set2) == kSet + set2);
  first.close();
  CHECK(bench.sink.wait(1).error.find("may have taken effect") != std::string::npos);
  bench.thread.call([] {});
  REQUIRE(bench.sink.of(2).error.find("may have taken effect") != std::string::npos);
  bench.tick(kALittle);
  Peer second = a.accept();
  bench.tick(2 * kALittle);
  CHECK(second.read_like(kGet) == kGet);
  second.send("$-1\r\n");
  CHECK(bench.sink.wait(3).bytes == "$-1\r\n");
  bench.tick(kALittle);
  CHECK(second.quiet());
}

TEST_CASE("a refused connection asks for the topology, and its requests wait for their deadline", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint()});
  a.shut();
  bench.send(1, kSet, 0, true);  // not a byte of it left
  bench.send(2, kGet);
  REQUIRE(bench.sink.wait_rerouted(2, 1).rerouted >= 1);
  bench.thread.call([] {});  // the sinks are told first
  CHECK(bench.refreshes >= 1);
  CHECK(bench.troubles >= 1);
  SECTION("another node has taken over") {
    auto topology = std::make_shared<Topology>(*bench.router->topology());
    topology->version = 2;
    topology->primaries = {b.endpoint()};
    bench.thread.call([&] { bench.router->set_topology(topology); });
    bench.tick(kALittle);
    Peer peer = b.accept();
    CHECK(peer.read_like(kSet + kGet) == kSet + kGet);
    peer.send("+OK\r\n$-1\r\n");
    CHECK(bench.sink.wait(1).bytes == "+OK\r\n");
    CHECK(bench.sink.wait(2).bytes == "$-1\r\n");
  }
  SECTION("nobody has") {
    bench.tick(kTimeout + kALittle);
    for (const std::uint64_t token : {1u, 2u}) {
      const Outcome outcome = bench.sink.wait(token);
      CHECK(outcome.error.substr(0, 16) == "ERR nearcached: ");
      CHECK(outcome.error.find("may have taken effect") == std::string::npos);
    }
  }
}

TEST_CASE("a node that closed the idle connection is connected to again without anybody noticing", "[router]") {
  ScriptedServer a;
  Bench bench({a.endpoint()});
  bench.send(1, kGet);
  {
    Peer first = a.accept();
    REQUIRE(first.read_like(kGet) == kGet);
    first.send("$-1\r\n");
    REQUIRE(bench.sink.wait(1).ends == 1);
  }
  // The loss is seen when its event was handled; a write sent before that has left and must fail: wait for it.
  for (int turn = 0; turn < 10'000 && bench.troubles == 0; ++turn) bench.thread.call([] {});
  REQUIRE(bench.troubles == 1);
  bench.send(2, kSet, 0, true);
  Peer second = a.accept();
  CHECK(second.read_like(kSet) == kSet);
  second.send("+OK\r\n");
  CHECK(bench.sink.wait(2).bytes == "+OK\r\n");
  CHECK(bench.sink.of(2).rerouted == 0);
}

TEST_CASE("each identity and each RESP version has its own connection", "[router]") {
  ScriptedServer a;
  Bench bench({a.endpoint()});
  Router::Lane* resp3 = nullptr;
  Router::Lane* other = nullptr;
  const IdentityPtr alice = std::make_shared<const Identity>(2u, Credentials{"alice", "pw"});
  bench.thread.call([&] {
    resp3 = &bench.router->attach(bench.lane->identity, RespVersion::kResp3);
    other = &bench.router->attach(alice, RespVersion::kResp2);
  });
  const auto send_on = [&](Router::Lane* lane, std::uint64_t token) {
    RequestMeta meta;
    meta.sink = &bench.sink;
    meta.token = token;
    meta.slot = 0;
    bench.thread.call([&] { bench.router->send(*lane, meta, kGet, io::boot_us()); });
  };
  send_on(bench.lane, 1);
  Peer plain = a.accept();
  CHECK(plain.read_like(kGet) == kGet);
  send_on(resp3, 2);
  Peer third = a.accept();
  CHECK(third.read_like(command({"HELLO", "3"})) == command({"HELLO", "3"}));
  send_on(other, 3);
  Peer hers = a.accept();
  CHECK(hers.read_like(command({"AUTH", "alice", "pw"})) == command({"AUTH", "alice", "pw"}));
  bench.thread.call([] {});
  CHECK(third.quiet());
  CHECK(hers.quiet());
  third.send("%1\r\n+proto\r\n:3\r\n");
  hers.send("+OK\r\n");
  CHECK(third.read_like(kGet) == kGet);
  CHECK(hers.read_like(kGet) == kGet);
  hers.send("$1\r\nh\r\n");
  CHECK(bench.sink.wait(3).bytes == "$1\r\nh\r\n");
  CHECK(bench.sink.of(1).ends == 0);
  CHECK(bench.sink.of(2).ends == 0);
}

TEST_CASE("a MOVED request keeps its identity", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint()});
  Router::Lane* hers = nullptr;
  const IdentityPtr alice = std::make_shared<const Identity>(2u, Credentials{"alice", "pw"});
  RequestMeta meta;
  meta.sink = &bench.sink;
  meta.token = 1;
  meta.slot = 0;
  bench.thread.call([&] {
    hers = &bench.router->attach(alice, RespVersion::kResp2);
    bench.router->send(*hers, meta, kGet, io::boot_us());
  });
  const std::string auth = command({"AUTH", "alice", "pw"});
  Peer at_a = a.accept();
  REQUIRE(at_a.read_like(auth) == auth);
  at_a.send("+OK\r\n");
  REQUIRE(at_a.read_like(kGet) == kGet);
  at_a.send("-MOVED 0 " + b.address() + "\r\n");
  Peer at_b = b.accept();
  CHECK(at_b.read_like(auth) == auth);
  bench.thread.call([] {});
  CHECK(at_b.quiet());
}

TEST_CASE("a node that takes no more makes its slots congested, until it answers", "[router]") {
  ScriptedServer a, b;
  Bench bench({a.endpoint(), b.endpoint()});
  bench.thread.stop();
  bench.options.pending_max = 2;
  LoopThread thread;
  Router router(thread.loop, bench.resolver, bench.counters, bench.options);
  router.set_topology(bench.router->topology());
  Router::Lane& lane = router.attach(bench.lane->identity, RespVersion::kResp2);
  thread.loop.on_turn_end([&] { router.flush(); });
  thread.start();
  RequestMeta meta;
  meta.sink = &bench.sink;
  meta.slot = 0;
  for (meta.token = 1; meta.token <= 2; ++meta.token) {
    thread.call([&] {
      CHECK_FALSE(router.congested(lane, 0));
      router.send(lane, meta, kGet, io::boot_us());
    });
  }
  thread.call([&] {
    CHECK(router.congested(lane, 0));
    CHECK_FALSE(router.congested(lane, 1));
    CHECK_FALSE(router.congested(lane, 5));
  });
  Peer peer = a.accept();
  REQUIRE(peer.read_like(kGet + kGet) == kGet + kGet);
  peer.send("$-1\r\n");
  REQUIRE(bench.sink.wait(1).ends == 1);
  thread.call([&] { CHECK_FALSE(router.congested(lane, 0)); });
  thread.stop();
}

}  // namespace nearcached::tiers::upstream
