// The bus as a fill link's source of changes: where it subscribes, what it concludes from what it hears and does not hear.
#include <catch2/catch.hpp>

#include "tests/unit/tiers/coherence/fill_link_harness.hpp"
#include "tiers/coherence/bus_channel.hpp"
#include "tiers/coherence/bus_message.hpp"
#include "tiers/coherence/fill_link.hpp"

namespace nearcached::tiers::coherence {
namespace {

using namespace testing;

constexpr std::uint64_t kOwn = 11;
constexpr std::uint64_t kPeer = 22;

FillLinkOptions on_bus(bool cluster = false) {
  FillLinkOptions options = cluster ? Harness::in_cluster() : Harness::with_defaults();
  options.sources = {ChangeSource::kBus};
  options.bus_channel = "near";
  options.bus_publisher = kOwn;
  return options;
}

std::string hello_of(std::string_view version) {
  return "%3\r\n+server\r\n+redis\r\n+version\r\n" + bulk(version) + "+proto\r\n:3\r\n";
}
std::string confirmed(std::string_view kind, std::string_view channel) {
  return ">3\r\n" + bulk(kind) + bulk(channel) + ":1\r\n";
}
std::string message_of(const BusMessage& message, std::string_view kind = "message") {
  return ">3\r\n" + bulk(kind) + bulk("near") + bulk(encode_bus_message(message));
}
std::string keys_message(std::uint64_t sequence, std::vector<std::string_view> keys, std::uint64_t publisher = kPeer) {
  BusMessage message;
  message.kind = BusKind::kInvalidate;
  message.publisher = publisher;
  message.epoch = 1;
  message.sequence = sequence;
  message.keys = std::move(keys);
  return message_of(message);
}
std::string text_message(BusKind kind, std::uint64_t sequence, std::string_view text) {
  BusMessage message;
  message.kind = kind;
  message.publisher = kPeer;
  message.epoch = 1;
  message.sequence = sequence;
  message.text = text;
  return message_of(message);
}
std::string beat(std::uint64_t last, BusKind kind = BusKind::kHeartbeat) {
  BusMessage message;
  message.kind = kind;
  message.publisher = kPeer;
  message.epoch = 1;
  message.last_sequence = last;
  return message_of(message);
}
std::string view_of(const std::string& slots) { return kHelloMaster + cluster_info("ok") + cluster_nodes("master", slots); }
const std::vector<Command> kClusterProbe{{"HELLO"}, {"CLUSTER", "INFO"}, {"CLUSTER", "NODES"}};

// On one server, subscribed and serving; what was said so far is forgotten.
struct Bus {
  Bus() {
    h.link.connected(h.now);
    REQUIRE(h.feed(hello_of("6.2.0") + kNoFieldExpiry + confirmed("subscribe", "near") + kHelloMaster));
    REQUIRE(h.link.state() == FillLinkState::kServing);
    forget();
  }
  void forget() {
    h.commands();
    h.log.clear();
  }
  // Past the gap that every subscription ends its first silence_us with.
  void settle() {
    for (int i = 0; i < 3; ++i) probe();
    h.now = kStart + kStaleness;
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.link.bus_gaps() == 1);
    if (!h.link.output().empty()) REQUIRE(h.feed(kHelloMaster));
    forget();
  }
  void probe() {
    h.now += kStaleness / 3;
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.feed(kHelloMaster));
    h.commands();
  }
  // Is what is read now still good?
  Filled fill(std::string_view key) {
    REQUIRE(h.submit(key));
    REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
    h.commands();
    return h.filled.back();
  }
  [[nodiscard]] bool holds(const Filled& fill) const { return h.current(fill.basis, fill.key); }
  [[nodiscard]] bool dead(const Filled& fill) const { return h.links.purged(fill.basis.link, fill.basis.generation); }

  Harness h{on_bus()};
};

// In a cluster, serving slots 100 and up, on a server of this version.
struct ClusterBus {
  explicit ClusterBus(std::string_view version) : sharded(version[0] >= '7') {
    h.link.connected(h.now);
    REQUIRE(h.feed(hello_of(version) + kNoFieldExpiry));
    h.commands();
    REQUIRE(h.feed(view_of("100-16383")));
    REQUIRE(subscribed_to(100));
    REQUIRE(h.link.state() == FillLinkState::kGreeting);
    confirm(100);
    REQUIRE(h.commands() == kClusterProbe);
    REQUIRE(h.feed(view_of("100-16383")));
    REQUIRE(h.link.state() == FillLinkState::kServing);
  }
  // Past the gap that every subscription ends its first silence_us with: from then on each probe proves anew.
  void settle() {
    for (int i = 0; i < 4; ++i) probe_with("100-16383");
    REQUIRE(h.link.bus_gaps() == 1);
    REQUIRE(h.links.proven_us(h.row) == h.now);
  }
  [[nodiscard]] static std::string channel(std::uint16_t slot) { return sharded_channel("near", slot); }
  bool subscribed_to(std::uint16_t slot) {
    std::vector<Command> expected{{"SUBSCRIBE", channel(slot)}};
    if (sharded) expected.push_back({"SSUBSCRIBE", channel(slot)});
    return h.commands() == expected;
  }
  void confirm(std::uint16_t slot) {
    REQUIRE(h.feed(confirmed("subscribe", channel(slot))));
    if (sharded) REQUIRE(h.feed(confirmed("ssubscribe", channel(slot))));
  }
  std::int64_t probe_with(const std::string& slots) {
    h.now += kStaleness / 3;
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.commands() == kClusterProbe);
    REQUIRE(h.feed(view_of(slots)));
    return h.now;
  }
  Filled fill(std::string_view key) {
    REQUIRE(h.submit(key, 1, 5000));
    REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
    h.commands();
    return h.filled.back();
  }

  const bool sharded;
  Harness h{on_bus(true)};
};

}  // namespace

TEST_CASE("keys that peers name are invalid, whoever of them says so, our own messages say nothing", "[fill_link][bus]") {
  Bus bus;
  const Filled a = bus.fill("a");
  const Filled z = bus.fill("z");
  bus.forget();
  REQUIRE(bus.h.feed(keys_message(7, {"a", "b"})));
  CHECK(bus.h.log == std::vector<std::string>{"invalidated a", "invalidated b"});
  CHECK_FALSE(bus.holds(a));
  CHECK(bus.holds(z));
  CHECK(bus.h.link.invalidations() == 1);
  REQUIRE(bus.h.feed(keys_message(1, {"z"}, kOwn)));
  CHECK(bus.holds(z));
  CHECK(bus.h.link.invalidations() == 1);
  CHECK(bus.h.link.bus_gaps() == 0);
}

TEST_CASE("a message concerns fills by its place among their replies", "[fill_link][bus]") {
  Bus bus;
  REQUIRE(bus.h.submit("k", 1));
  REQUIRE(bus.h.feed(bulk("old") + keys_message(1, {"k"})));
  REQUIRE(bus.h.submit("k", 2));
  REQUIRE(bus.h.feed(":-1\r\n" + bulk("new") + ":-1\r\n"));
  REQUIRE(bus.h.filled.size() == 2);
  CHECK_FALSE(bus.h.filled[0].installable);
  CHECK(bus.h.filled[1].installable);
  CHECK_FALSE(bus.h.filled[1].unwatched);
}

TEST_CASE("purges that peers publish reach everybody and what is under way", "[fill_link][bus]") {
  Bus bus;
  REQUIRE(bus.h.feed(beat(0)));
  REQUIRE(bus.h.submit("user:1"));
  SECTION("a prefix") {
    REQUIRE(bus.h.feed(text_message(BusKind::kPrefix, 1, "user:")));
    CHECK(bus.h.log == std::vector<std::string>{"invalidated prefix user:"});
  }
  SECTION("a tag: everything") {
    REQUIRE(bus.h.feed(text_message(BusKind::kTag, 1, "t")));
    CHECK(bus.h.log == std::vector<std::string>{"invalidated prefix "});
  }
  SECTION("a namespace: everything") {
    REQUIRE(bus.h.feed(text_message(BusKind::kNamespace, 1, "")));
    CHECK(bus.h.log == std::vector<std::string>{"invalidated prefix "});
  }
  REQUIRE(bus.h.feed(bulk("v") + ":-1\r\n"));
  CHECK_FALSE(bus.h.filled.back().installable);
  CHECK(bus.h.link.bus_gaps() == 0);
  CHECK(bus.h.link.invalidations() == 1);
}

TEST_CASE("a message that is missing makes everything unverified at once, and what is under way not to be kept",
          "[fill_link][bus]") {
  Bus bus;
  REQUIRE(bus.h.feed(keys_message(1, {"a"})));
  const Filled before = bus.fill("k");
  REQUIRE(bus.h.submit("under way", 1));
  bus.forget();
  REQUIRE(bus.h.feed(keys_message(3, {"b"})));
  CHECK(bus.h.log == std::vector<std::string>{"gap", "invalidated b"});
  CHECK_FALSE(bus.holds(before));
  CHECK_FALSE(bus.dead(before));  // unverified: it may well be true
  REQUIRE(bus.h.submit("under way", 2));
  REQUIRE(bus.h.feed(bulk("1") + ":-1\r\n" + bulk("2") + ":-1\r\n"));
  REQUIRE(bus.h.filled.size() == 3);
  CHECK_FALSE(bus.h.filled[1].installable);
  CHECK(bus.h.filled[2].installable);
  CHECK(bus.h.filled[2].link_is_proof);
  CHECK(bus.h.link.bus_gaps() == 1);
}

TEST_CASE("a message that can't be read may have been anything", "[fill_link][bus]") {
  Bus bus;
  const Filled before = bus.fill("k");
  bus.forget();
  REQUIRE(bus.h.feed(">3\r\n+message\r\n+near\r\n" + bulk("hello")));
  CHECK(bus.h.log == std::vector<std::string>{"gap", "invalidated prefix "});
  CHECK_FALSE(bus.holds(before));
}

TEST_CASE("the first silence after a subscription ends with a gap, later ones only if somebody fell silent",
          "[fill_link][bus]") {
  Bus bus;
  const Filled first = bus.fill("k");
  bus.h.now = kStart + kStaleness - 1;
  REQUIRE(bus.h.link.tick(bus.h.now));
  REQUIRE(bus.h.feed(kHelloMaster));
  CHECK(bus.holds(first));
  CHECK(bus.h.verified_until() <= kStart + kStaleness);  // a hit need not wait for the tick
  bus.h.now = kStart + kStaleness;
  REQUIRE(bus.h.link.tick(bus.h.now));
  CHECK_FALSE(bus.holds(first));
  CHECK(bus.h.link.bus_gaps() == 1);
  const std::int64_t silent_since = bus.h.now;
  for (int i = 0; i < 20; ++i) bus.probe();  // nobody is there to be silent
  CHECK(bus.h.link.bus_gaps() == 1);
  CHECK(bus.h.verified_until() == bus.h.now + kStaleness);
  CHECK(bus.h.verified_until() > silent_since + kStaleness);
}

TEST_CASE("a peer that falls silent ends the proof when its silence does, one that says BYE does not", "[fill_link][bus]") {
  Bus bus;
  bus.settle();
  bus.probe();
  REQUIRE(bus.h.feed(beat(0)));
  const std::int64_t heard = bus.h.now;
  SECTION("silent") {
    bus.probe();
    const Filled entry = bus.fill("k");
    bus.probe();
    // The proofs of later probes reach no further than the silence may.
    CHECK(bus.h.verified_until() == heard + kStaleness);
    bus.h.now = heard + kStaleness - 1;
    REQUIRE(bus.h.link.tick(bus.h.now));
    CHECK(bus.holds(entry));
    bus.h.now = heard + kStaleness;
    CHECK_FALSE(bus.h.proves(entry.basis.generation, bus.h.now));
    REQUIRE(bus.h.link.tick(bus.h.now));
    CHECK_FALSE(bus.holds(entry));
    CHECK(bus.h.link.bus_gaps() == 2);
    REQUIRE(bus.h.feed(kHelloMaster));
    bus.probe();
    CHECK(bus.h.verified_until() == bus.h.now + kStaleness);
  }
  SECTION("beating") {
    for (int i = 0; i < 9; ++i) {
      bus.probe();
      REQUIRE(bus.h.feed(beat(0)));
    }
    CHECK(bus.h.link.bus_gaps() == 1);
    CHECK(bus.h.verified_until() == bus.h.now - kStaleness / 3 + kStaleness);  // as of the beat before the last probe
  }
  SECTION("BYE") {
    REQUIRE(bus.h.feed(beat(0, BusKind::kBye)));
    for (int i = 0; i < 9; ++i) bus.probe();
    CHECK(bus.h.link.bus_gaps() == 1);
    CHECK(bus.h.verified_until() == bus.h.now + kStaleness);
  }
}

TEST_CASE("a peer was heard when the last answered request left, not when its message was read", "[fill_link][bus]") {
  Bus bus;
  bus.settle();
  bus.probe();
  const std::int64_t answered = bus.h.now;
  bus.h.now += kStaleness / 4;  // the message lay in a buffer meanwhile
  REQUIRE(bus.h.feed(beat(0)));
  bus.probe();
  bus.h.now = answered + kStaleness - 1;
  REQUIRE(bus.h.link.tick(bus.h.now));
  CHECK(bus.h.link.bus_gaps() == 1);
  bus.h.now = answered + kStaleness;
  REQUIRE(bus.h.link.tick(bus.h.now));
  CHECK(bus.h.link.bus_gaps() == 2);
}

TEST_CASE("a loss is a loss on the bus as well, and what was heard before is void on the next connection",
          "[fill_link][bus]") {
  Bus bus;
  REQUIRE(bus.h.feed(keys_message(1, {"a"})));
  const Filled before = bus.fill("k");
  bus.h.lose();
  CHECK_FALSE(bus.holds(before));
  CHECK(bus.h.links.proven_us(bus.h.row) == 0);
  bus.h.link.connected(bus.h.now);
  CHECK(bus.h.commands().back() == Command{"SUBSCRIBE", "near"});
  REQUIRE(bus.h.feed(hello_of("6.2.0") + kNoFieldExpiry + confirmed("subscribe", "near") + kHelloMaster));
  CHECK(bus.h.link.state() == FillLinkState::kServing);
  const Filled after = bus.fill("k");
  REQUIRE(bus.h.feed(keys_message(5, {"a"})));  // it has not settled: joined at any number
  CHECK(bus.holds(after));
}

TEST_CASE("a message ahead of the subscription's confirmation does no harm and is not lost", "[fill_link][bus]") {
  Harness h(on_bus());
  h.link.connected(h.now);
  REQUIRE(h.feed(hello_of("6.2.0") + kNoFieldExpiry + keys_message(1, {"a"})));
  CHECK(h.log.back() == "invalidated a");
  REQUIRE(h.feed(confirmed("subscribe", "near") + kHelloMaster));
  CHECK(h.link.state() == FillLinkState::kServing);
  REQUIRE(h.submit("k"));
  REQUIRE(h.feed(keys_message(9, {"b"}) + bulk("v") + ":-1\r\n"));
  CHECK(h.installable());
}

TEST_CASE("a subscription that was lost on its way is made anew on the next connection", "[fill_link][bus]") {
  Harness h(on_bus());
  h.link.connected(h.now);
  REQUIRE(h.feed(hello_of("6.2.0") + kNoFieldExpiry));
  h.lose();
  h.link.connected(h.now);
  REQUIRE(h.feed(hello_of("6.2.0") + kNoFieldExpiry + confirmed("subscribe", "near") + kHelloMaster));
  CHECK(h.link.state() == FillLinkState::kServing);
}

TEST_CASE("a subscription that is not answered is given up", "[fill_link][bus]") {
  Harness h(on_bus());
  h.link.connected(h.now);
  REQUIRE(h.feed(hello_of("6.2.0") + kNoFieldExpiry));
  CHECK(h.link.tick(h.now + kReplyTimeout));
  CHECK_FALSE(h.link.tick(h.now + kReplyTimeout + 1));
}

TEST_CASE("in a cluster the channel hangs on the lowest slot of the node's own view", "[fill_link][bus]") {
  for (const std::string version : {"6.2.14", "7.0.15", "8.0.1"}) {
    CAPTURE(version);
    ClusterBus bus(version);
    const std::int64_t sent = bus.probe_with("100-16383");
    CHECK(bus.h.commands().empty());
    CHECK(bus.h.links.proven_us(bus.h.row) <= sent);
    CHECK(bus.h.link.bus_gaps() == 0);
  }
}

TEST_CASE("whoever publishes hears what the node says of its lowest slot, as of the question", "[fill_link][bus]") {
  ClusterBus bus("7.0.15");
  const std::int64_t first = bus.probe_with("100-16383");
  CHECK(bus.h.own_view == std::pair<std::uint16_t, std::int64_t>{100, first});
  const std::int64_t second = bus.probe_with("50-16383");
  CHECK(bus.h.own_view == std::pair<std::uint16_t, std::int64_t>{50, second});
}

TEST_CASE("in a cluster it is not served before both subscriptions stand", "[fill_link][bus]") {
  Harness h(on_bus(true));
  REQUIRE(h.submit("k", 1, 5000));
  h.link.connected(h.now);
  CHECK(h.commands().back() == Command{"CLUSTER", "NODES"});
  const std::string channel = sharded_channel("near", 7);
  const std::string replies[] = {hello_of("7.2.0"), kNoFieldExpiry, view_of("7-16383"), confirmed("subscribe", channel),
                                 confirmed("ssubscribe", channel)};
  for (const std::string& reply : replies) {
    CHECK(h.link.state() == FillLinkState::kGreeting);
    REQUIRE(h.feed(reply));
    CHECK(h.links.proven_us(h.row) == 0);
    CHECK(h.link.reads_in_flight() == 0);
  }
  REQUIRE(h.feed(view_of("7-16383")));
  CHECK(h.link.state() == FillLinkState::kServing);
  CHECK(h.link.reads_in_flight() == 1);
}

TEST_CASE("a node that is not fit or has no slots yet is asked until it is", "[fill_link][bus]") {
  Harness h(on_bus(true));
  h.link.connected(h.now);
  const std::string bad[] = {
      kHelloMaster + cluster_info("fail") + cluster_nodes("master", "0-16383"),
      kHelloReplica + cluster_info("ok") + cluster_nodes("slave", ""),
      view_of(""),
  };
  REQUIRE(h.feed(hello_of("7.2.0") + kNoFieldExpiry));
  h.commands();
  for (const std::string& view : bad) {
    CAPTURE(view);
    REQUIRE(h.feed(view));
    CHECK(h.commands().empty());
    CHECK(h.link.state() == FillLinkState::kGreeting);
    h.now += kStaleness / 3;
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.commands() == kClusterProbe);
  }
  REQUIRE(h.feed(view_of("0-16383")));
  CHECK(h.commands().size() == 2);
}

TEST_CASE("a channel that moves is subscribed to, a gap, and until that stands no proof", "[fill_link][bus]") {
  ClusterBus bus("7.0.15");
  bus.settle();
  const Filled entry = bus.fill("k");
  const std::int64_t proven = bus.h.links.proven_us(bus.h.row);
  bus.probe_with("50-16383");
  CHECK(bus.subscribed_to(50));
  CHECK(bus.h.links.proven_us(bus.h.row) == proven);
  CHECK(bus.h.current(entry.basis, "k"));
  bus.h.now += 1000;
  bus.confirm(50);
  CHECK_FALSE(bus.h.current(entry.basis, "k"));  // what was said there before we listened
  CHECK(bus.h.link.bus_gaps() == 2);
  CHECK(bus.h.commands() == kClusterProbe);  // at once: nothing is proven
  const std::int64_t sent = bus.h.now;
  REQUIRE(bus.h.feed(view_of("50-16383")));
  CHECK(bus.h.links.proven_us(bus.h.row) == sent);
  // Back to a channel that it never left: nothing is missed there.
  bus.probe_with("100-16383");
  CHECK(bus.h.commands().empty());
  CHECK(bus.h.link.bus_gaps() == 2);
}

TEST_CASE("a subscription that the server ends is a gap, and made anew where the view says", "[fill_link][bus]") {
  ClusterBus bus("7.0.15");
  bus.settle();
  const Filled entry = bus.fill("k");
  const std::int64_t proven = bus.h.links.proven_us(bus.h.row);
  REQUIRE(bus.h.feed(confirmed("sunsubscribe", ClusterBus::channel(100))));
  CHECK_FALSE(bus.h.current(entry.basis, "k"));
  CHECK(bus.h.link.bus_gaps() == 2);
  SECTION("elsewhere") {
    bus.probe_with("200-16383");
    CHECK(bus.subscribed_to(200));
    CHECK(bus.h.links.proven_us(bus.h.row) == proven);
    bus.confirm(200);
    REQUIRE(bus.h.feed(view_of("200-16383")));
    CHECK(bus.h.links.proven_us(bus.h.row) == bus.h.now);
  }
  SECTION("the slot is back before we looked") {
    bus.probe_with("100-16383");
    CHECK(bus.subscribed_to(100));
    CHECK(bus.h.links.proven_us(bus.h.row) == proven);
    bus.confirm(100);
    CHECK(bus.h.link.bus_gaps() == 3);
  }
  SECTION("the news of an older channel does not end the wait for the newer one") {
    bus.probe_with("200-16383");
    CHECK(bus.subscribed_to(200));
    REQUIRE(bus.h.feed(confirmed("unsubscribe", ClusterBus::channel(100))));
    bus.confirm(200);
    REQUIRE(bus.h.feed(view_of("200-16383")));
    CHECK(bus.h.links.proven_us(bus.h.row) == bus.h.now);
  }
}

TEST_CASE("a subscription that is sent elsewhere proves nothing and is made again, wherever the channel is then",
          "[fill_link][bus]") {
  const std::string error =
      GENERATE(as<std::string>{}, "-MOVED 50 10.0.0.2:6379\r\n", "-CLUSTERDOWN The cluster is down\r\n");
  SECTION("while it serves") {
    ClusterBus bus("7.0.15");
    bus.settle();
    const std::int64_t proven = bus.h.links.proven_us(bus.h.row);
    bus.probe_with("50-16383");
    REQUIRE(bus.subscribed_to(50));
    const Filled entry = [&] {
      REQUIRE(bus.h.submit("k", 1, 5000));
      REQUIRE(bus.h.feed(confirmed("subscribe", ClusterBus::channel(50)) + error + bulk("v") + ":-1\r\n"));
      bus.h.commands();
      return bus.h.filled.back();
    }();
    CHECK_FALSE(entry.installable);
    CHECK(bus.h.link.state() == FillLinkState::kServing);
    CHECK(bus.h.links.proven_us(bus.h.row) == proven);
    const std::uint64_t gaps = bus.h.link.bus_gaps();
    const Filled deaf = bus.fill("k");
    bus.probe_with("60-16383");
    CHECK(bus.h.links.proven_us(bus.h.row) == proven);
    REQUIRE(bus.subscribed_to(60));
    bus.confirm(60);
    CHECK(bus.h.link.bus_gaps() == gaps + 1);  // what was said while it was deaf
    CHECK_FALSE(bus.h.current(deaf.basis, "k"));
    REQUIRE(bus.h.feed(view_of("60-16383")));
    CHECK(bus.h.links.proven_us(bus.h.row) == bus.h.now);
  }
  SECTION("in the greeting: it is not taken for a refusal") {
    FillLinkOptions options = on_bus(true);
    options.sources = {ChangeSource::kTracking, ChangeSource::kBus, ChangeSource::kTtl};
    Harness h(options);
    h.link.connected(h.now);
    REQUIRE(h.feed(hello_of("7.0.0") + kNoFieldExpiry + "-NOPERM tracking\r\n" + view_of("50-16383")));
    h.commands();
    REQUIRE(h.feed(confirmed("subscribe", ClusterBus::channel(50)) + error));
    CHECK(h.link.source() == ChangeSource::kBus);
    CHECK(h.commands().empty());
    h.now += kStaleness / 3;
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.feed(view_of("60-16383")));
    const std::string channel = ClusterBus::channel(60);
    REQUIRE(h.feed(confirmed("subscribe", channel) + confirmed("ssubscribe", channel) + view_of("60-16383")));
    CHECK(h.link.state() == FillLinkState::kServing);
    CHECK(h.link.source() == ChangeSource::kBus);
  }
}

TEST_CASE("one of two subscriptions is none", "[fill_link][bus]") {
  Harness h(on_bus(true));
  h.link.connected(h.now);
  const std::string channel = ClusterBus::channel(100);
  REQUIRE(h.feed(hello_of("7.0.0") + kNoFieldExpiry + view_of("100-16383")));
  h.commands();
  REQUIRE(h.feed("-CLUSTERDOWN The cluster is down\r\n" + confirmed("ssubscribe", channel)));
  CHECK(h.commands().empty());  // no source, nothing to prove
  h.now += kStaleness / 3;
  REQUIRE(h.link.tick(h.now));
  REQUIRE(h.feed(view_of("100-16383")));
  CHECK(h.link.state() == FillLinkState::kGreeting);
  h.commands();
  REQUIRE(h.feed(confirmed("subscribe", channel) + confirmed("ssubscribe", channel)));
  REQUIRE(h.feed(view_of("100-16383")));
  CHECK(h.link.state() == FillLinkState::kServing);
}

TEST_CASE("an ACL that takes the channels away falls back to the next source, and what was read dies", "[fill_link][bus]") {
  FillLinkOptions options = on_bus(true);
  options.sources = {ChangeSource::kBus, ChangeSource::kTtl};
  Harness h(options);
  h.link.connected(h.now);
  const std::string channel = ClusterBus::channel(100);
  REQUIRE(h.feed(hello_of("7.0.0") + kNoFieldExpiry + view_of("100-16383") + confirmed("subscribe", channel)));
  REQUIRE(h.feed(confirmed("ssubscribe", channel) + view_of("100-16383")));
  REQUIRE(h.submit("k", 1, 5000));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  REQUIRE(h.installable());
  h.now += kStaleness / 3;
  REQUIRE(h.link.tick(h.now));
  h.commands();
  REQUIRE(h.feed(view_of("50-16383") + "-NOPERM no channels\r\n-NOPERM no channels\r\n"));
  CHECK(h.link.source() == ChangeSource::kTtl);
  CHECK(h.links.purged(h.row, h.filled[0].basis.generation));
  REQUIRE(h.feed(view_of("50-16383")));
  CHECK(h.link.state() == FillLinkState::kServing);
  CHECK(h.links.proven_us(h.row) == LinkTable::kForever);
  REQUIRE(h.submit("k", 1, 5000));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  CHECK(h.filled.back().unwatched);
}

TEST_CASE("tracking that is granted later takes the bus's place", "[fill_link][bus]") {
  FillLinkOptions options = on_bus();
  options.sources = {ChangeSource::kTracking, ChangeSource::kBus};
  Harness h(options);
  h.link.connected(h.now);
  REQUIRE(
      h.feed(hello_of("7.0.0") + kNoFieldExpiry + "-NOPERM tracking\r\n" + confirmed("subscribe", "near") + kHelloMaster));
  REQUIRE(h.link.state() == FillLinkState::kServing);
  REQUIRE(h.feed(beat(0)));
  REQUIRE(h.submit("k"));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  h.commands();
  h.now += FillLink::kBetterSourceUs;
  REQUIRE(h.link.tick(h.now));
  REQUIRE(h.feed(kHelloMaster + kOk));
  CHECK(h.link.source() == ChangeSource::kTracking);
  CHECK(h.links.purged(h.row, h.filled[0].basis.generation));  // it was not tracked when it was read
  REQUIRE(h.feed(kHelloMaster));
  CHECK(h.verified_until() == h.now + kStaleness);
  const std::uint64_t gaps = h.link.bus_gaps();
  h.commands();
  for (int i = 0; i < 6; ++i) h.prove();  // the peer's silence on the bus means nothing any more
  CHECK(h.verified_until() == h.now + kStaleness);
  CHECK(h.link.bus_gaps() == gaps);
}

}  // namespace nearcached::tiers::coherence
