// Writes of unknown outcome before a scripted node: kept out of L1, and told once more when they can't land any more.
#include "tiers/bus_quarantine.hpp"

#include <atomic>
#include <catch2/catch.hpp>

#include "tests/mock/scripted_server.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::tiers {
namespace {

using namespace nearcached::testing;
using upstream::Router;
using upstream::RouterOptions;

constexpr std::int64_t kTimeout = 100'000'000;  // far longer than a test takes: only ticks make it pass
constexpr std::int64_t kHold = 10'000'000;

struct Bench {
  explicit Bench(const upstream::Endpoint& node) {
    RouterOptions options;
    options.seeds = {node};
    options.command_timeout_us = options.connect_timeout_us = kTimeout;
    options.request_refresh = [] {};
    options.on_trouble = [](const upstream::Endpoint&, std::string_view) {};
    options.make_announcer = [this](const upstream::Endpoint& endpoint) {
      return std::make_unique<BusPublisher>(BusPublisherOptions{"bus", 42, 2 * kTimeout, 4 * kTimeout}, CommandLookup(),
                                            epochs, endpoint);
    };
    router = std::make_unique<Router>(thread.loop, resolver, counters, options);
    quarantine =
        std::make_unique<BusQuarantine>(BusQuarantineOptions{kHold}, CommandLookup(), cache, *router,
                                        std::make_shared<const upstream::Identity>(1u, upstream::Credentials{}), counters);
    thread.loop.on_turn_end([this] { router->flush(); });
    thread.start();
  }
  ~Bench() { thread.stop(); }

  void hold(const std::string& request) {
    thread.call([=, this] { quarantine->hold(request, io::boot_us()); });
  }
  void tick(std::int64_t later) {
    thread.call([=, this] {
      quarantine->tick(io::boot_us() + later);
      router->tick(io::boot_us() + later);
    });
  }
  std::size_t held() {
    std::size_t held = 0;
    thread.call([&, this] { held = quarantine->held(); });
    return held;
  }
  [[nodiscard]] bool may_keep(std::string_view key) { return cache.fences().capture(l1::hash_key(key)).open(); }

  LoopThread thread;
  io::Resolver resolver;
  insight::Counters counters;
  std::atomic<std::uint32_t> epochs{0};
  NearCache cache{NearCacheOptions{}};
  std::unique_ptr<Router> router;
  std::unique_ptr<BusQuarantine> quarantine;
};

// The next message that the node is sent.
coherence::BusMessage heard(Peer& peer, std::string& payload) {
  std::string bytes;
  protocol::RequestParser parser;
  while (parser.parse(bytes, {}) != protocol::ParseStatus::kComplete) {
    const std::string more = peer.read(1);
    REQUIRE(more.size() == 1);
    bytes += more;
  }
  REQUIRE(parser.args().size() == 3);
  payload = std::string(parser.args()[2]);
  coherence::BusMessage message;
  REQUIRE(coherence::decode_bus_message(payload, message) == coherence::BusDecoded::kGood);
  return message;
}

}  // namespace

TEST_CASE("a key of unknown outcome is not kept until its time is over and it has been told again", "[bus_quarantine]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  CHECK(bench.may_keep("k"));
  bench.hold(command({"SET", "k", "v"}));
  CHECK_FALSE(bench.may_keep("k"));
  CHECK(bench.may_keep("other"));
  bench.tick(kHold - 5'000'000);
  CHECK(server.nobody_waits());
  CHECK_FALSE(bench.may_keep("k"));
  bench.tick(kHold + 1);
  Peer peer = server.accept();
  std::string payload;
  CHECK(heard(peer, payload).kind == coherence::BusKind::kHeartbeat);
  const coherence::BusMessage message = heard(peer, payload);
  CHECK(message.kind == coherence::BusKind::kInvalidate);
  CHECK(message.keys == std::vector<std::string_view>{"k"});
  CHECK_FALSE(bench.may_keep("k"));
  SECTION("the node takes it") {
    peer.send(":0\r\n:0\r\n");
    for (int turn = 0; turn < 10'000 && bench.held() != 0; ++turn) {}
    CHECK(bench.held() == 0);
  }
  SECTION("it does not answer: no fence stays for ever") { bench.tick(3 * kTimeout); }
  CHECK(bench.may_keep("k"));
}

TEST_CASE("a key that is held twice is kept only when both are over", "[bus_quarantine]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  bench.hold(command({"MSET", "k", "1", "k", "2"}));
  CHECK(bench.held() == 2);
  bench.tick(kHold + 1);
  Peer peer = server.accept();
  std::string payload;
  for (int message = 0; message < 3; ++message) static_cast<void>(heard(peer, payload));
  peer.send(":0\r\n:0\r\n");
  for (int turn = 0; turn < 10'000 && bench.held() != 1; ++turn) {}
  CHECK_FALSE(bench.may_keep("k"));
  peer.send(":0\r\n");
  for (int turn = 0; turn < 10'000 && bench.held() != 0; ++turn) {}
  CHECK(bench.may_keep("k"));
}

TEST_CASE("a write whose keys nobody knows, and those beyond the bound, hold all keys", "[bus_quarantine]") {
  ScriptedServer server;
  Bench bench(server.endpoint());
  SECTION("a script without keys") { bench.hold(command({"EVAL", "return 1", "0"})); }
  SECTION("too many keys") {
    for (std::size_t i = 0; i <= BusQuarantine::kKeysMax; ++i) {
      bench.quarantine->hold(command({"SET", "key" + std::to_string(i), "v"}), io::boot_us());
    }
    CHECK(bench.held() == BusQuarantine::kKeysMax + 1);
  }
  CHECK_FALSE(bench.may_keep("any"));
  bench.tick(kHold + 1'000'000);
  Peer peer = server.accept();
  std::string payload;
  coherence::BusMessage message;
  for (std::size_t i = 0; i < BusQuarantine::kKeysMax + 2 && message.kind != coherence::BusKind::kNamespace; ++i) {
    message = heard(peer, payload);
  }
  CHECK(message.kind == coherence::BusKind::kNamespace);
  CHECK(message.text.empty());
  CHECK(bench.may_keep("any"));
  bench.tick(kHold * 2);
  bench.hold(command({"SET", "again", "v"}));
  CHECK(bench.may_keep("any"));
}

}  // namespace nearcached::tiers
