// Connections that clients have for themselves, and the pool that lends them, against servers that hang, lie and hang up.
#include "tiers/upstream/pinned_pool.hpp"

#include <catch2/catch.hpp>

#include "tests/mock/scripted_server.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::tiers::upstream {
namespace {

using namespace nearcached::testing;
using protocol::RespVersion;

constexpr std::int64_t kForever = 1'000'000'000'000;  // only ticks make it pass

// A client with at most one connection. Everything but the waits happens on the loop.
class Client final : public PinnedOwner {
 public:
  void on_reply(std::uint64_t token, std::string_view bytes, bool last) override { sink.on_reply(token, bytes, last); }
  void on_failure(std::uint64_t token, std::string_view error, bool broken) override {
    sink.on_failure(token, error, broken);
  }
  void on_rerouted(std::uint64_t token) override { sink.on_rerouted(token); }
  void on_published(std::uint64_t, bool, std::string_view) override {}
  void on_outcome_unknown(std::uint64_t, std::string_view) override {}
  void on_push(PinnedConnection&, std::string_view frame) override { pushes.on_reply(0, frame, false); }
  void on_lost(PinnedConnection&, std::string_view why) override { lost.on_failure(0, why, false); }

  PinnedPool::Acquired then() {
    return [this](PinnedPool::Connection got, std::string_view error) {
      connection = std::move(got);
      if (connection == nullptr) {
        acquired.on_failure(0, error, false);
      } else {
        acquired.on_reply(0, connection->ready() ? "ready" : "not ready", true);
      }
    };
  }

  PinnedPool::Connection connection;
  std::uint64_t ticket = 0;
  Recorder sink, pushes, lost, acquired;
};

struct Given {
  std::size_t max = 10;
  std::size_t min = 10;
  std::int64_t acquire_timeout_us = kForever;
};

class Bench {
 public:
  explicit Bench(Given given = {}) {
    budget.max = given.max;
    pool = std::make_unique<PinnedPool>(thread.loop, resolver,
                                        PinnedPoolOptions{given.min, given.acquire_timeout_us, kForever}, budget);
    thread.loop.on_turn_end([this] { pool->flush(); });
    thread.start();
  }
  ~Bench() { thread.stop(); }

  void acquire(Client& client, const Endpoint& endpoint, RespVersion version = RespVersion::kResp2,
               const IdentityPtr& identity = nullptr) {
    const IdentityPtr who = identity == nullptr ? nobody : identity;
    thread.call([&, who, version] { client.ticket = pool->acquire(client, who, version, endpoint, client.then()); });
  }
  void give_back(Client& client, bool clean) {
    thread.call([&] { pool->give_back(std::move(client.connection), clean); });
  }
  void send(Client& client, std::uint64_t token, const std::string& bytes, std::int64_t deadline_us = 0) {
    thread.call([&] { client.connection->send(token, bytes, deadline_us); });
  }
  void tick(std::int64_t later_us) {
    thread.call([&] { pool->tick(io::boot_us() + later_us); });
  }
  PinnedPoolCounts counts() {
    PinnedPoolCounts counts;
    thread.call([&] { counts = pool->counts(); });
    return counts;
  }

  const IdentityPtr nobody = std::make_shared<const Identity>(1u, Credentials{});
  LoopThread thread;
  io::Resolver resolver;
  PinnedBudget budget;
  std::unique_ptr<PinnedPool> pool;
};

const std::string kClientId = command({"CLIENT", "ID"});
const std::string kPop = command({"BLPOP", "k", "0"});

// The server's part of a greeting of nobody in RESP2.
Peer greet(ScriptedServer& server) {
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kClientId) == kClientId);
  peer.send(":77\r\n");
  return peer;
}

}  // namespace

TEST_CASE("a connection is lent when the node has greeted, and its replies come in order", "[pinned_pool]") {
  ScriptedServer server;
  Client client;
  Bench bench;
  bench.acquire(client, server.endpoint());
  Peer peer = server.accept();
  REQUIRE(peer.read_like(kClientId) == kClientId);
  CHECK(client.acquired.of(0).ends == 0);
  peer.send(":77\r\n");
  REQUIRE(client.acquired.wait(0).bytes == "ready");
  CHECK(client.connection->upstream_id() == 77);
  bench.send(client, 1, kPop);
  bench.send(client, 2, kPop);
  REQUIRE(peer.read_like(kPop + kPop) == kPop + kPop);
  peer.send("*-1\r\n*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
  CHECK(client.sink.wait(1).bytes == "*-1\r\n");
  CHECK(client.sink.wait(2).bytes == "*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
  bench.give_back(client, true);
}

TEST_CASE("a clean connection serves the next one, an unclean one nobody", "[pinned_pool]") {
  ScriptedServer server;
  Client first, second, third;
  Bench bench;
  bench.acquire(first, server.endpoint());
  Peer peer = greet(server);
  REQUIRE(first.acquired.wait(0).bytes == "ready");
  bench.give_back(first, true);
  bench.acquire(second, server.endpoint());
  REQUIRE(second.acquired.wait(0).bytes == "ready");
  CHECK(server.nobody_waits());
  CHECK(bench.counts().opened == 1);
  bench.give_back(second, false);
  CHECK(peer.closed());
  bench.acquire(third, server.endpoint());
  Peer other = greet(server);
  REQUIRE(third.acquired.wait(0).bytes == "ready");
  bench.give_back(third, false);
}

TEST_CASE("a connection that owes a reply is not lent again, whatever its client says", "[pinned_pool]") {
  ScriptedServer server;
  Client client;
  Bench bench;
  bench.acquire(client, server.endpoint());
  Peer peer = greet(server);
  REQUIRE(client.acquired.wait(0).bytes == "ready");
  bench.send(client, 1, kPop);
  REQUIRE(peer.read_like(kPop) == kPop);
  bench.give_back(client, true);
  CHECK(peer.closed());
  CHECK(bench.counts().idle == 0);
  CHECK(bench.budget.open == 0);
}

TEST_CASE("connections of another user or protocol are not lent", "[pinned_pool]") {
  ScriptedServer server;
  Client first, second;
  Bench bench;
  bench.acquire(first, server.endpoint());
  Peer peer = greet(server);
  REQUIRE(first.acquired.wait(0).bytes == "ready");
  bench.give_back(first, true);

  SECTION("another protocol") {
    bench.acquire(second, server.endpoint(), RespVersion::kResp3);
    Peer other = server.accept();
    const std::string hello = command({"HELLO", "3"}) + kClientId;
    CHECK(other.read(command({"HELLO", "3"}).size()) == command({"HELLO", "3"}));
  }
  SECTION("another user") {
    const auto alice = std::make_shared<const Identity>(2u, Credentials{"alice", "pw"});
    bench.acquire(second, server.endpoint(), RespVersion::kResp2, alice);
    Peer other = server.accept();
    CHECK(other.read_like(command({"AUTH", "alice", "pw"})) == command({"AUTH", "alice", "pw"}));
  }
  bench.thread.call([&] { bench.pool->cancel(second.ticket); });
}

TEST_CASE("at the limit one waits until another gives back, and is told which limit after its time", "[pinned_pool]") {
  ScriptedServer server;
  Client first, second, third;
  Bench bench({1, 1, 10'000'000});
  bench.acquire(first, server.endpoint());
  Peer peer = greet(server);
  REQUIRE(first.acquired.wait(0).bytes == "ready");
  bench.acquire(second, server.endpoint());
  bench.acquire(third, server.endpoint());
  CHECK(bench.counts().waiting == 2);
  CHECK(server.nobody_waits());
  bench.give_back(first, true);
  REQUIRE(second.acquired.wait(0).bytes == "ready");  // who came first
  CHECK(third.acquired.of(0).ends == 0);
  bench.tick(11'000'000);
  CHECK(third.acquired.wait(0).error ==
        "ERR nearcached: no upstream connection was free within upstream.pinned_pool.acquire_timeout (10000 ms): all 1 of "
        "upstream.pinned_pool.max are in use");
  CHECK(bench.counts().timeouts == 1);
  bench.give_back(second, true);
}

TEST_CASE("at the limit an idle connection to elsewhere makes room", "[pinned_pool]") {
  ScriptedServer here, there;
  Client first, second;
  Bench bench({1});
  bench.acquire(first, here.endpoint());
  Peer peer = greet(here);
  REQUIRE(first.acquired.wait(0).bytes == "ready");
  bench.give_back(first, true);
  bench.acquire(second, there.endpoint());
  CHECK(peer.closed());
  Peer other = greet(there);
  REQUIRE(second.acquired.wait(0).bytes == "ready");
  CHECK(bench.budget.open == 1);
  bench.give_back(second, true);
}

TEST_CASE("another worker's idle connection makes room at its next tick", "[pinned_pool]") {
  ScriptedServer server;
  Client first, second;
  Bench bench({1});
  PinnedPool other(bench.thread.loop, bench.resolver, PinnedPoolOptions{1, kForever, kForever}, bench.budget);
  bench.acquire(first, server.endpoint());
  Peer peer = greet(server);
  REQUIRE(first.acquired.wait(0).bytes == "ready");
  bench.give_back(first, true);
  bench.thread.call([&] { other.acquire(second, bench.nobody, RespVersion::kResp2, server.endpoint(), second.then()); });
  const auto turn = [&] {
    bench.thread.call([&] { other.tick(io::boot_us()); });
    bench.tick(0);
    bench.thread.call([&] { other.tick(io::boot_us()); });
  };
  turn();
  CHECK(peer.closed());
  Peer next = server.accept();
  bench.thread.call([&] { other.flush(); });
  CHECK(bench.budget.open == 1);
  bench.thread.call([&] { other.cancel(second.ticket); });
  bench.thread.stop();
}

TEST_CASE("who may not come in is told in the upstream's words, and holds no place", "[pinned_pool]") {
  ScriptedServer server;
  Client client;
  Bench bench({1});
  const auto alice = std::make_shared<const Identity>(2u, Credentials{"alice", "wrong"});
  bench.acquire(client, server.endpoint(), RespVersion::kResp2, alice);
  Peer peer = server.accept();
  peer.send("-WRONGPASS invalid username-password pair or user is disabled.\r\n-NOAUTH Authentication required.\r\n");
  CHECK(client.acquired.wait(0).error == "WRONGPASS invalid username-password pair or user is disabled.");
  CHECK(bench.budget.open == 0);
  CHECK(bench.counts().waiting == 0);
}

TEST_CASE("a user who may not ask CLIENT ID gets a connection without a number", "[pinned_pool]") {
  ScriptedServer server;
  Client client;
  Bench bench;
  bench.acquire(client, server.endpoint());
  Peer peer = server.accept();
  peer.send("-NOPERM this user has no permissions to run the 'client|id' command\r\n");
  REQUIRE(client.acquired.wait(0).bytes == "ready");
  CHECK(client.connection->upstream_id() == 0);
  bench.give_back(client, true);
}

TEST_CASE("a node that is not there is an error at once", "[pinned_pool]") {
  ScriptedServer server;
  const Endpoint endpoint = server.endpoint();
  server.shut();
  Client client;
  Bench bench;
  bench.acquire(client, endpoint);
  CHECK(client.acquired.wait(0).error.find("ERR nearcached: ") == 0);
  CHECK(bench.budget.open == 0);
}

TEST_CASE("what answers nothing is passed on whole, between replies that do", "[pinned_connection]") {
  ScriptedServer server;
  Client client;
  Bench bench;
  bench.acquire(client, server.endpoint());
  Peer peer = greet(server);
  REQUIRE(client.acquired.wait(0).bytes == "ready");
  const std::string message = ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n";
  bench.send(client, 1, kPop);
  peer.send(message.substr(0, 9));
  bench.thread.call([] {});
  peer.send(message.substr(9) + "$1\r\nx\r\n" + message);
  CHECK(client.sink.wait(1).bytes == "$1\r\nx\r\n");
  CHECK(client.pushes.wait_until(0, [](const Outcome& o) { return o.pieces == 2; }).bytes == message + message);
  bench.give_back(client, true);
}

TEST_CASE("a connection that breaks fails what was asked, then says that it is lost", "[pinned_connection]") {
  ScriptedServer server;
  Client client;
  Bench bench;
  bench.acquire(client, server.endpoint());
  Peer peer = greet(server);
  REQUIRE(client.acquired.wait(0).bytes == "ready");
  bench.send(client, 1, kPop);
  bench.send(client, 2, kPop);
  REQUIRE(peer.read_like(kPop + kPop) == kPop + kPop);
  SECTION("between replies") {
    peer.close();
    CHECK_FALSE(client.sink.wait(1).broken);
  }
  SECTION("in the midst of one, of which the client has the beginning") {
    peer.send("$100000\r\nabc");
    static_cast<void>(client.sink.wait_until(1, [](const Outcome& o) { return o.pieces > 0; }));
    peer.close();
    CHECK(client.sink.wait(1).broken);
  }
  CHECK(client.sink.wait(2).error.find("ERR nearcached: ") == 0);
  CHECK_FALSE(client.sink.of(2).broken);
  CHECK_FALSE(client.lost.wait(0).error.empty());
  bench.give_back(client, true);
  CHECK(bench.counts().idle == 0);
}

TEST_CASE("a reply that is late breaks the connection; one that may take for ever does not", "[pinned_connection]") {
  ScriptedServer server;
  Client client;
  Bench bench;
  bench.acquire(client, server.endpoint());
  Peer peer = greet(server);
  REQUIRE(client.acquired.wait(0).bytes == "ready");
  bench.send(client, 1, kPop);
  bench.tick(3'600'000'000);
  CHECK(client.sink.of(1).ends == 0);
  peer.send("*-1\r\n");
  REQUIRE(client.sink.wait(1).bytes == "*-1\r\n");
  bench.send(client, 2, kPop, io::boot_us() + 1'000'000);
  bench.tick(2'000'000);
  CHECK(client.sink.wait(2).error.find("may have taken effect") != std::string::npos);
  CHECK_FALSE(client.lost.wait(0).error.empty());
  bench.give_back(client, true);
}

TEST_CASE("idle connections over what is needed are closed after some seconds, all after a minute", "[pinned_pool]") {
  ScriptedServer server;
  Client first, second;
  Bench bench({10, 1});
  bench.acquire(first, server.endpoint());
  bench.acquire(second, server.endpoint());
  Peer one = greet(server);
  Peer other = greet(server);
  REQUIRE(first.acquired.wait(0).bytes == "ready");
  REQUIRE(second.acquired.wait(0).bytes == "ready");
  bench.give_back(first, true);
  bench.give_back(second, true);
  bench.tick(PinnedPool::kIdleCloseUs / 2);
  CHECK(bench.counts().idle == 2);
  bench.tick(PinnedPool::kIdleCloseUs + 2'000'000);
  CHECK(bench.counts().idle == 1);
  bench.tick(PinnedPool::kUnusedUs + 4'000'000);
  CHECK(bench.counts().idle == 0);
  CHECK(bench.budget.open == 0);
}

}  // namespace nearcached::tiers::upstream
