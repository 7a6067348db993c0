// What a connection publishes of its writes, on which channel, and what it owes when the node does not take it.
#include "tiers/bus_publisher.hpp"

#include <catch2/catch.hpp>

#include "protocol/writer.hpp"
#include "tiers/coherence/bus_channel.hpp"

namespace nearcached::tiers {
namespace {

using coherence::BusDecoded;
using coherence::BusKind;
using upstream::Endpoint;
using upstream::Topology;

const Endpoint kNode{"10.0.0.1", 6379};
const Endpoint kOther{"10.0.0.2", 6379};
constexpr std::int64_t kHeartbeat = 300;

std::string request(std::initializer_list<std::string_view> words) {
  std::string bytes;
  protocol::append_command(bytes, words);
  return bytes;
}

Topology cluster(std::uint16_t lowest, std::string version = "7.0.15") {
  Topology topology;
  topology.cluster = true;
  topology.server_version = std::move(version);
  topology.primaries = {kOther, kNode};
  topology.owner.fill(0);
  for (std::size_t slot = lowest; slot < topology.owner.size(); ++slot) topology.owner[slot] = 1;
  return topology;
}

// One published message, taken apart.
struct Said {
  std::vector<std::string> words;  // PUBLISH, channel
  coherence::BusMessage message;
  explicit Said(const std::string& bytes) {
    protocol::RequestParser parser;
    REQUIRE(parser.parse(bytes, {}) == protocol::ParseStatus::kComplete);
    REQUIRE(parser.consumed() == bytes.size());
    words.assign(parser.args().begin(), parser.args().end());
    REQUIRE(words.size() == 3);
    REQUIRE(decode_bus_message(words[2], message) == BusDecoded::kGood);
  }
  Said(const Said&) = delete;
};

struct Rig {
  explicit Rig(const Topology& topology = {}) { REQUIRE_FALSE(publisher.set_topology(topology, 0)); }
  upstream::Announcer::Messages write(std::initializer_list<std::string_view> words, std::int64_t now = 0) {
    upstream::Announcer::Messages out;
    publisher.before_write(out, now);
    said_behind = publisher.behind_write(out, request(words), now);
    return out;
  }
  upstream::Announcer::Messages again(std::int64_t now = 0) {
    upstream::Announcer::Messages out;
    publisher.again(out, now);
    return out;
  }
  void acknowledge(std::size_t replies) {
    for (std::size_t i = 0; i < replies; ++i) publisher.acknowledged();
  }

  bool said_behind = false;
  std::atomic<std::uint32_t> epochs{0};
  protocol::DynamicCommand module{"json.set", -4, {"write"}, 1, 1, 1};
  coherence::BusViews views;
  BusPublisher publisher{{"bus", 42, kHeartbeat, 10'000, &views},
                         [this](std::string_view name) { return name == "JSON.SET" ? &module.command() : nullptr; },
                         epochs,
                         kNode};
};

}  // namespace

TEST_CASE("one server: the configured channel, the stream's announcement, then the keys", "[bus_publisher]") {
  Rig rig;
  const auto first = rig.write({"SET", "k", "v"});
  REQUIRE(first.size() == 2);
  const Said opened(first[0]);
  CHECK(opened.words[0] == "PUBLISH");
  CHECK(opened.words[1] == "bus");
  CHECK(opened.message.kind == BusKind::kHeartbeat);
  const Said keys(first[1]);
  CHECK(keys.message.kind == BusKind::kInvalidate);
  CHECK(keys.message.keys == std::vector<std::string_view>{"k"});
  CHECK(keys.message.sequence == 1);
  CHECK(rig.write({"DEL", "a", "b"}).size() == 1);
}

TEST_CASE("in a cluster the channel hangs on the node's lowest slot, sharded from Redis 7 on", "[bus_publisher]") {
  for (const char* version : {"6.2.7", "7.0.15", "8.0.0", ""}) {
    CAPTURE(version);
    Rig rig(cluster(5461, version));
    const auto out = rig.write({"SET", "k", "v"});
    const Said said(out[1]);
    CHECK(said.words[0] == (version[0] >= '7' ? "SPUBLISH" : "PUBLISH"));
    CHECK(said.words[1] == coherence::sharded_channel("bus", 5461));
  }
}

TEST_CASE("a node without slots has no channel, and is able when it has one", "[bus_publisher]") {
  Topology topology = cluster(0);
  topology.owner.fill(0);
  Rig rig(topology);
  CHECK_FALSE(rig.publisher.able());
  topology.owner.fill(Topology::kNoNode);
  CHECK_FALSE(rig.publisher.set_topology(topology, 0));
  CHECK_FALSE(rig.publisher.able());
  CHECK_FALSE(rig.publisher.set_topology(cluster(3), 0));
  CHECK(rig.publisher.able());
}

TEST_CASE("a write's keys are those that the command names, wherever they stand", "[bus_publisher]") {
  struct Case {
    std::initializer_list<std::string_view> request;
    std::vector<std::string_view> keys;  // none: everything
  };
  const Case cases[] = {
      {{"MSET", "a", "1", "b", "2"}, {"a", "b"}},
      {{"eval", "return 1", "2", "x", "y", "z"}, {"x", "y"}},
      {{"EVAL", "return 1", "0"}, {}},
      {{"EVAL", "return 1", "none"}, {}},
      {{"FLUSHALL"}, {}},
      {{"SWAPDB", "0", "1"}, {}},
      {{"XGROUP", "CREATE", "s", "g", "$"}, {"s"}},
      {{"JSON.SET", "doc", "$", "1"}, {"doc"}},
      {{"RENAME", "a", "b"}, {"a", "b"}},
  };
  for (const Case& c : cases) {
    Rig rig;
    const auto out = rig.write(c.request);
    CAPTURE(std::string(c.request.begin()[0]));
    REQUIRE(out.size() == 2);
    const Said said(out[1]);
    if (c.keys.empty()) {
      CHECK(said.message.kind == BusKind::kNamespace);
      CHECK(said.message.text.empty());
    } else {
      REQUIRE(said.message.kind == BusKind::kInvalidate);
      CHECK(said.message.keys == c.keys);
    }
  }
}

TEST_CASE("what a command nobody knows changed is asked of its reply: everything, unless nothing was executed",
          "[bus_publisher]") {
  struct Case {
    std::string_view error;
    bool executed;
  };
  const Case cases[] = {
      {"", true},
      {"ERR unknown command 'What.Ever', with args beginning with: 'k' ", false},
      {"ERR unknown command `What.Ever`, with args beginning with: `k`, ", false},
      {"ERR wrong number of arguments for 'what.ever' command", false},
      {"NOPERM this user has no permissions to run the 'what.ever' command or its subcommand", false},
      {"NOPERM User app has no permissions to run the 'what.ever' command", false},
      {"NOAUTH Authentication required.", false},
      // From inside, perhaps after it has written.
      {"ERR unknown command 'whatxever', with args beginning with: ", true},
      {"ERR unknown command 'other', with args beginning with: ", true},
      {"ERR unknown command 'what.ever.else', with args beginning with: ", true},
      {"ERR wrong number of arguments for 'get' command", true},
      {"NOPERM this user has no permissions to access one of the keys used as arguments", true},
      {"ERR it says: ERR unknown command 'what.ever', with args", true},
      {"WRONGTYPE Operation against a key holding the wrong kind of value", true},
  };
  const std::string bytes = request({"What.Ever", "k"});
  for (const Case& c : cases) {
    CAPTURE(c.error);
    Rig rig;
    CHECK(rig.write({"What.Ever", "k"}).size() == 1);  // the announcement
    CHECK_FALSE(rig.said_behind);
    upstream::Announcer::Messages out;
    rig.publisher.behind_reply(out, bytes, c.error, 0);
    REQUIRE(out.size() == (c.executed ? 1 : 0));
    if (c.executed) CHECK(Said(out[0]).message.kind == BusKind::kNamespace);
  }
}

TEST_CASE("a name longer than Redis repeats is found by what it repeats", "[bus_publisher]") {
  const std::string name(300, 'x');
  CHECK(says_not_executed("ERR unknown command '" + name.substr(0, 128) + "', with args", name));
  CHECK_FALSE(says_not_executed("ERR unknown command '" + name.substr(0, 127) + "', with args", name));
}

TEST_CASE("of a reply that was lost everything is owed, ahead of the news of the loss", "[bus_publisher]") {
  Rig rig;
  CHECK(rig.write({"What.Ever", "k"}).size() == 1);
  rig.acknowledge(1);
  rig.publisher.unanswered();
  rig.publisher.lost();
  REQUIRE(rig.publisher.owes());
  const auto out = rig.again();
  REQUIRE(out.size() == 3);
  CHECK(Said(out[1]).message.kind == BusKind::kNamespace);
  CHECK(Said(out[2]).message.kind == BusKind::kLost);
}

TEST_CASE("more keys than one message holds are several messages, and none is left out", "[bus_publisher]") {
  for (const std::size_t count : {coherence::kBusKeysMax, coherence::kBusKeysMax + 1, 3 * coherence::kBusKeysMax}) {
    std::vector<std::string> words{"DEL"};
    for (std::size_t i = 0; i < count; ++i) words.push_back("key" + std::to_string(i));
    std::string bytes;
    protocol::append_command(bytes, std::vector<std::string_view>(words.begin(), words.end()));
    Rig rig;
    upstream::Announcer::Messages out;
    REQUIRE(rig.publisher.behind_write(out, bytes, 0));
    CHECK(out.size() == (count + coherence::kBusKeysMax - 1) / coherence::kBusKeysMax);
    std::vector<std::string> found;
    for (const std::string& message : out) {
      const Said said(message);
      found.insert(found.end(), said.message.keys.begin(), said.message.keys.end());
    }
    CHECK(found == std::vector<std::string>(words.begin() + 1, words.end()));
  }
}

TEST_CASE("what was lost with the connection is said again ahead of the news of the loss", "[bus_publisher]") {
  Rig rig;
  CHECK(rig.write({"SET", "k", "v"}).size() == 2);
  rig.acknowledge(1);
  CHECK_FALSE(rig.publisher.owes());
  rig.publisher.lost();
  REQUIRE(rig.publisher.owes());
  const auto out = rig.again();
  REQUIRE(out.size() == 3);
  CHECK(Said(out[0]).message.kind == BusKind::kHeartbeat);
  CHECK(Said(out[1]).message.kind == BusKind::kInvalidate);
  const Said lost(out[2]);
  CHECK(lost.message.kind == BusKind::kLost);
  CHECK(lost.message.lost_epoch == 1);
  CHECK_FALSE(rig.publisher.owes());
  rig.acknowledge(3);
  rig.publisher.lost();  // and what is acknowledged is not said a third time
  REQUIRE(rig.again(1).size() == 2);
}

TEST_CASE("a node that refuses and refuses is owed no more each time", "[bus_publisher]") {
  Rig rig;
  CHECK(rig.write({"SET", "k", "v"}).size() == 2);
  REQUIRE(rig.publisher.refused());
  CHECK_FALSE(rig.publisher.refused());  // the second message of that stream
  std::size_t size = 0;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(rig.publisher.owes());
    const auto out = rig.again(i);
    if (size == 0) size = out.size();
    REQUIRE(out.size() == size);
    REQUIRE(rig.publisher.refused());
    for (std::size_t n = 1; n < size; ++n) CHECK_FALSE(rig.publisher.refused());
  }
  const auto out = rig.again(100);
  CHECK(Said(out[1]).message.keys == std::vector<std::string_view>{"k"});
  rig.acknowledge(out.size());
  CHECK_FALSE(rig.publisher.owes());
}

TEST_CASE("what was written behind a repetition that is refused is owed beside it", "[bus_publisher]") {
  Rig rig;
  CHECK(rig.write({"SET", "a", "v"}).size() == 2);
  rig.publisher.lost();
  const std::size_t repeated = rig.again().size();
  CHECK(rig.write({"SET", "b", "v"}).size() == 1);
  REQUIRE(rig.publisher.refused());
  for (std::size_t n = 0; n < repeated; ++n) CHECK_FALSE(rig.publisher.refused());
  std::vector<std::string> keys;
  for (const std::string& message : rig.again()) {
    const Said said(message);
    keys.insert(keys.end(), said.message.keys.begin(), said.message.keys.end());
  }
  CHECK(keys == std::vector<std::string>{"a", "b"});
}

TEST_CASE("when the channel moves, whoever listens on the new one hears what was on its way, and that more may be missing",
          "[bus_publisher]") {
  Rig rig(cluster(100));
  CHECK(rig.write({"SET", "k", "v"}).size() == 2);
  CHECK_FALSE(rig.publisher.set_topology(cluster(100), 0));
  REQUIRE(rig.publisher.set_topology(cluster(50), 0));
  const auto out = rig.again();
  REQUIRE(out.size() == 4);
  for (const std::string& message : out) CHECK(Said(message).words[1] == coherence::sharded_channel("bus", 50));
  CHECK(Said(out[1]).message.keys == std::vector<std::string_view>{"k"});
  CHECK(Said(out[2]).message.lost_epoch == 1);
  CHECK(Said(out[3]).message.lost_epoch == 0);
  rig.acknowledge(2 + 4);  // the old channel's replies are still to come
  CHECK_FALSE(rig.publisher.owes());
}

TEST_CASE("what the node says of its slots goes ahead of the topology, while it is fresh", "[bus_publisher]") {
  Rig rig(cluster(100));
  CHECK(rig.write({"SET", "k", "v"}).size() == 2);
  CHECK_FALSE(rig.publisher.moved());
  rig.views.note(kOther, 7, 1000);  // not ours
  rig.views.note(kNode, 100, 1000);
  CHECK_FALSE(rig.publisher.moved());
  rig.views.note(kNode, 50, 2000);
  rig.views.note(kNode, 100, 1500);  // an older question, answered later
  REQUIRE(rig.publisher.moved());
  CHECK_FALSE(rig.publisher.moved());
  CHECK(rig.publisher.channel() == coherence::sharded_channel("bus", 50));
  const auto out = rig.again();
  REQUIRE(out.size() == 4);
  CHECK(Said(out[3]).message.lost_epoch == 0);

  SECTION("but not once the node has refused a message there") {
    REQUIRE(rig.publisher.refused() == false);  // of the old channel
    REQUIRE(rig.publisher.refused() == false);
    REQUIRE(rig.publisher.refused());
    CHECK_FALSE(rig.publisher.set_topology(cluster(100), 2001));  // its stream has ended with the refusal
    CHECK(rig.publisher.channel() == coherence::sharded_channel("bus", 100));
  }
  SECTION("and no longer than it is fresh") {
    CHECK_FALSE(rig.publisher.set_topology(cluster(100), 2000 + 3 * kHeartbeat));
    CHECK(rig.publisher.channel() == coherence::sharded_channel("bus", 50));
    CHECK(rig.publisher.set_topology(cluster(100), 2001 + 3 * kHeartbeat));
    CHECK(rig.publisher.channel() == coherence::sharded_channel("bus", 100));
  }
}

TEST_CASE("a node that is new to the topology is able as soon as it says which slots it has", "[bus_publisher]") {
  Topology topology = cluster(0);
  topology.owner.fill(0);
  Rig rig(topology);
  CHECK_FALSE(rig.publisher.able());
  rig.views.note(kNode, 9, 1);
  CHECK_FALSE(rig.publisher.moved());  // of no stream
  CHECK(rig.publisher.able());
}

TEST_CASE("one server has no slots to go by", "[bus_publisher]") {
  Rig rig;
  rig.views.note(kNode, 9, 1);
  CHECK_FALSE(rig.publisher.moved());
  CHECK(rig.publisher.channel() == "bus");
}

TEST_CASE("a stream is kept alive, and ends in peace only when nothing is unanswered", "[bus_publisher]") {
  Rig rig;
  upstream::Announcer::Messages out;
  rig.publisher.tick(out, 0);
  rig.publisher.farewell(out, 0);
  CHECK(out.empty());
  CHECK(rig.write({"SET", "k", "v"}).size() == 2);
  rig.publisher.tick(out, kHeartbeat - 1);
  CHECK(out.empty());
  rig.publisher.tick(out, kHeartbeat);
  REQUIRE(out.size() == 1);
  CHECK(Said(out[0]).message.last_sequence == 1);
  rig.publisher.farewell(out, kHeartbeat);
  CHECK(out.size() == 1);
  rig.acknowledge(3);
  rig.publisher.farewell(out, kHeartbeat);
  REQUIRE(out.size() == 2);
  CHECK(Said(out[1]).message.kind == BusKind::kBye);
}

}  // namespace nearcached::tiers
