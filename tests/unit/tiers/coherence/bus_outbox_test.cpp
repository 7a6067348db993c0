#include "tiers/coherence/bus_outbox.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <string>

namespace nearcached::tiers::coherence {
namespace {

constexpr std::uint64_t kPublisher = 42;
constexpr std::int64_t kHeartbeat = 300;
constexpr std::int64_t kRest = 3000;

struct Rig {
  std::atomic<std::uint32_t> epochs{0};
  BusOutbox outbox{{kPublisher, kHeartbeat, kRest}, epochs};
  std::string invalidate(std::string_view key, std::int64_t now) { return outbox.invalidate(std::array{key}, now); }
  void acknowledge(std::size_t replies) {
    for (std::size_t i = 0; i < replies; ++i) outbox.acknowledged();
  }
};

// Decodes; keeps the payload that the views point into.
struct Read {
  std::string payload;
  BusMessage message;
  explicit Read(std::string bytes) : payload(std::move(bytes)) {
    REQUIRE(decode_bus_message(payload, message) == BusDecoded::kGood);
    REQUIRE(message.publisher == kPublisher);
  }
};

void check_invalidates(const std::string& payload, std::uint32_t epoch, std::uint64_t sequence, std::string_view key) {
  const Read read(payload);
  CHECK(read.message.kind == BusKind::kInvalidate);
  CHECK(read.message.epoch == epoch);
  CHECK(read.message.sequence == sequence);
  CHECK(read.message.keys == std::vector<std::string_view>{key});
}

void check_ending(const std::string& payload, BusKind kind, std::uint32_t epoch, std::uint64_t last) {
  const Read read(payload);
  CHECK(read.message.kind == kind);
  CHECK(read.message.epoch == epoch);
  CHECK(read.message.last_sequence == last);
}

void check_lost(const std::string& payload, std::uint64_t sequence, std::uint32_t lost_epoch, std::uint64_t last) {
  const Read read(payload);
  CHECK(read.message.kind == BusKind::kLost);
  CHECK(read.message.sequence == sequence);
  CHECK(read.message.lost_epoch == lost_epoch);
  CHECK(read.message.last_sequence == last);
}

}  // namespace

TEST_CASE("a stream is announced ahead of its first write, and numbered from 1", "[bus_outbox]") {
  Rig rig;
  CHECK_FALSE(rig.outbox.open());
  check_ending(rig.outbox.announcement(0), BusKind::kHeartbeat, 1, 0);
  CHECK(rig.outbox.open());
  check_invalidates(rig.invalidate("a", 0), 1, 1, "a");
  CHECK(rig.outbox.announcement(1).empty());
  check_invalidates(rig.invalidate("b", 1), 1, 2, "b");
}

TEST_CASE("a message that nobody announced opens a stream of its own", "[bus_outbox]") {
  Rig rig;
  check_invalidates(rig.invalidate("a", 0), 1, 1, "a");
}

TEST_CASE("connections of one process have streams of different names", "[bus_outbox]") {
  Rig rig;
  BusOutbox other({kPublisher, kHeartbeat, kRest}, rig.epochs);
  check_ending(rig.outbox.announcement(0), BusKind::kHeartbeat, 1, 0);
  check_ending(other.announcement(0), BusKind::kHeartbeat, 2, 0);
}

TEST_CASE("no stream is called 0, also when the counter comes round", "[bus_outbox]") {
  Rig rig;
  rig.epochs = 0xFFFFFFFFu;
  check_ending(rig.outbox.announcement(0), BusKind::kHeartbeat, 1, 0);
}

TEST_CASE("all keys of a write are told; of too many, or none known, it is everything", "[bus_outbox]") {
  Rig rig;
  std::vector<std::string_view> keys(kBusKeysMax, "k");
  CHECK(Read(rig.outbox.invalidate(keys, 0)).message.keys == keys);
  keys.push_back("k");
  for (const std::string& payload : {rig.outbox.invalidate(keys, 0), rig.outbox.invalidate({}, 0)}) {
    const Read read(payload);
    CHECK(read.message.kind == BusKind::kNamespace);
    CHECK(read.message.text.empty());
    CHECK(read.message.keys.empty());
  }
}

TEST_CASE("purges are numbered like the rest", "[bus_outbox]") {
  Rig rig;
  (void)rig.invalidate("a", 0);
  const Read read(rig.outbox.purge(BusKind::kPrefix, "user:", 0));
  CHECK(read.message.kind == BusKind::kPrefix);
  CHECK(read.message.text == "user:");
  CHECK(read.message.sequence == 2);
}

TEST_CASE("a heartbeat is due exactly an interval after the last message", "[bus_outbox]") {
  Rig rig;
  CHECK(rig.outbox.heartbeat(10'000).empty());  // no stream, nothing to say
  (void)rig.outbox.announcement(0);
  CHECK(rig.outbox.heartbeat(kHeartbeat - 1).empty());
  check_ending(rig.outbox.heartbeat(kHeartbeat), BusKind::kHeartbeat, 1, 0);
  CHECK(rig.outbox.heartbeat(kHeartbeat + 1).empty());
  (void)rig.invalidate("a", kHeartbeat + 100);
  CHECK(rig.outbox.heartbeat(2 * kHeartbeat + 99).empty());
  check_ending(rig.outbox.heartbeat(2 * kHeartbeat + 100), BusKind::kHeartbeat, 1, 1);
}

TEST_CASE("a write after a pause goes behind a heartbeat", "[bus_outbox]") {
  Rig rig;
  (void)rig.outbox.announcement(0);
  (void)rig.invalidate("a", 0);
  CHECK(rig.outbox.announcement(kHeartbeat - 1).empty());
  check_ending(rig.outbox.announcement(kHeartbeat), BusKind::kHeartbeat, 1, 1);
}

TEST_CASE("an idle stream rests with a kBye, and the next write opens another", "[bus_outbox]") {
  Rig rig;
  (void)rig.outbox.announcement(0);
  (void)rig.invalidate("a", 0);
  rig.acknowledge(2);
  std::int64_t now = 0;
  while (now + kHeartbeat < kRest) {
    now += kHeartbeat;
    check_ending(rig.outbox.heartbeat(now), BusKind::kHeartbeat, 1, 1);
    rig.acknowledge(1);
  }
  check_ending(rig.outbox.heartbeat(kRest), BusKind::kBye, 1, 1);
  rig.acknowledge(1);
  CHECK_FALSE(rig.outbox.open());
  CHECK(rig.outbox.heartbeat(10 * kRest).empty());
  check_ending(rig.outbox.announcement(10 * kRest), BusKind::kHeartbeat, 2, 0);
  check_invalidates(rig.invalidate("b", 10 * kRest), 2, 1, "b");
}

TEST_CASE("a stream does not rest while something of it is unanswered", "[bus_outbox]") {
  Rig rig;
  (void)rig.outbox.announcement(0);
  (void)rig.invalidate("a", 0);
  rig.acknowledge(1);
  check_ending(rig.outbox.heartbeat(kRest), BusKind::kHeartbeat, 1, 1);
  rig.acknowledge(2);
  check_ending(rig.outbox.heartbeat(2 * kRest), BusKind::kBye, 1, 1);
}

TEST_CASE("a stream does not rest behind a write of which nothing was said yet", "[bus_outbox]") {
  Rig rig;
  (void)rig.outbox.announcement(0);
  (void)rig.invalidate("a", 0);
  check_ending(rig.outbox.announcement(kRest - 1), BusKind::kHeartbeat, 1, 1);
  rig.acknowledge(3);
  check_ending(rig.outbox.heartbeat(kRest - 1 + kHeartbeat), BusKind::kHeartbeat, 1, 1);
  rig.acknowledge(1);
  CHECK(rig.outbox.open());
  check_ending(rig.outbox.heartbeat(2 * kRest - 1), BusKind::kBye, 1, 1);
}

TEST_CASE("bye ends the stream once", "[bus_outbox]") {
  Rig rig;
  CHECK(rig.outbox.bye(0).empty());
  (void)rig.invalidate("a", 0);
  check_ending(rig.outbox.bye(1), BusKind::kBye, 1, 1);
  CHECK(rig.outbox.bye(2).empty());
}

TEST_CASE("a connection that never published takes nothing with it", "[bus_outbox]") {
  Rig rig;
  const BusLost lost = rig.outbox.lost();
  CHECK(lost.empty());
  CHECK(rig.outbox.republish(lost, 0).empty());
  CHECK_FALSE(rig.outbox.open());
}

TEST_CASE("what was not acknowledged is published again, then the broken stream is told", "[bus_outbox]") {
  Rig rig;
  (void)rig.outbox.announcement(0);
  (void)rig.invalidate("a", 0);
  (void)rig.invalidate("b", 0);
  (void)rig.outbox.heartbeat(kHeartbeat);
  (void)rig.outbox.purge(BusKind::kPrefix, "p", kHeartbeat);
  rig.acknowledge(2);  // the announcement and a
  const BusLost lost = rig.outbox.lost();
  CHECK_FALSE(rig.outbox.open());
  CHECK(rig.outbox.awaited() == 0);

  BusOutbox other({kPublisher, kHeartbeat, kRest}, rig.epochs);
  const std::vector<std::string> again = other.republish(lost, 1000);
  REQUIRE(again.size() == 4);
  check_ending(again[0], BusKind::kHeartbeat, 2, 0);
  check_invalidates(again[1], 2, 1, "b");
  const Read prefix(again[2]);
  CHECK(prefix.message.kind == BusKind::kPrefix);
  CHECK(prefix.message.text == "p");
  CHECK(prefix.message.sequence == 2);
  check_lost(again[3], 3, 1, 1);
}

TEST_CASE("a stream with nothing unknown is told as well, or peers would call it silent", "[bus_outbox]") {
  Rig rig;
  (void)rig.outbox.announcement(0);
  (void)rig.invalidate("a", 0);
  rig.acknowledge(2);
  const BusLost lost = rig.outbox.lost();
  const std::vector<std::string> again = rig.outbox.republish(lost, 10);
  REQUIRE(again.size() == 2);
  check_lost(again[1], 1, 1, 1);
}

TEST_CASE("news of a broken stream survive the breaking of the stream that carried them", "[bus_outbox]") {
  Rig rig;
  (void)rig.invalidate("a", 0);
  (void)rig.outbox.republish(rig.outbox.lost(), 10);
  const std::vector<std::string> again = rig.outbox.republish(rig.outbox.lost(), 20);
  REQUIRE(again.size() == 4);
  check_ending(again[0], BusKind::kHeartbeat, 3, 0);
  check_invalidates(again[1], 3, 1, "a");
  check_lost(again[2], 2, 1, 0);
  check_lost(again[3], 3, 2, 0);
}

TEST_CASE("streams that ended on a connection are told if their end was not acknowledged", "[bus_outbox]") {
  Rig rig;
  (void)rig.invalidate("a", 0);
  rig.acknowledge(1);
  (void)rig.outbox.bye(1);
  (void)rig.outbox.announcement(2);
  (void)rig.invalidate("b", 2);
  const BusLost lost = rig.outbox.lost();
  REQUIRE(lost.streams.size() == 2);
  CHECK(lost.streams[0].epoch == 1);
  CHECK(lost.streams[0].last_sequence == 1);
  CHECK(lost.streams[1].epoch == 2);
  CHECK(lost.streams[1].last_sequence == 0);
  CHECK(lost.payloads.size() == 1);
}

TEST_CASE("a refused message ends its stream; replies to the rest of it are not the next stream's", "[bus_outbox]") {
  Rig rig;
  (void)rig.outbox.announcement(0);
  (void)rig.invalidate("a", 0);
  (void)rig.invalidate("b", 0);
  (void)rig.invalidate("c", 0);
  rig.acknowledge(2);
  const BusLost lost = rig.outbox.refused();  // b
  REQUIRE(lost.payloads.size() == 2);
  const std::vector<std::string> again = rig.outbox.republish(lost, 5);
  REQUIRE(again.size() == 4);
  check_invalidates(again[1], 2, 1, "b");
  check_invalidates(again[2], 2, 2, "c");
  check_lost(again[3], 3, 1, 1);
  CHECK(rig.outbox.refused().empty());  // c, of the old stream
  rig.acknowledge(2);                   // the new stream's announcement and b
  const BusLost rest = rig.outbox.lost();
  REQUIRE(rest.payloads.size() == 2);
  check_invalidates(rest.payloads[0], 2, 2, "c");
  CHECK(rest.streams.front().last_sequence == 1);
}

TEST_CASE("a change of channel publishes the unknown again, and that more may have been missed", "[bus_outbox]") {
  Rig rig;
  (void)rig.outbox.announcement(0);
  (void)rig.invalidate("a", 0);
  rig.acknowledge(1);
  const std::vector<std::string> again = rig.outbox.republish(rig.outbox.moved(), 5);
  REQUIRE(again.size() == 4);
  check_ending(again[0], BusKind::kHeartbeat, 2, 0);
  check_invalidates(again[1], 2, 1, "a");
  check_lost(again[2], 2, 1, 0);
  check_lost(again[3], 3, 0, 1);
  rig.acknowledge(1);  // a, on the old channel
  CHECK(rig.outbox.awaited() == 4);
}

TEST_CASE("a change of channel is told by a resting connection too", "[bus_outbox]") {
  Rig rig;
  const std::vector<std::string> again = rig.outbox.republish(rig.outbox.moved(), 5);
  REQUIRE(again.size() == 2);
  check_lost(again[1], 1, 0, 1);
}

TEST_CASE("more messages than are remembered are published again as everything", "[bus_outbox]") {
  Rig rig;
  (void)rig.outbox.announcement(0);
  for (std::size_t i = 0; i < 2 * BusOutbox::kRememberedMax; ++i) (void)rig.invalidate("k", 0);
  CHECK(rig.outbox.awaited() == 2 * BusOutbox::kRememberedMax + 1);
  const BusLost lost = rig.outbox.lost();
  CHECK(lost.everything);
  CHECK(lost.payloads.size() < BusOutbox::kRememberedMax);
  const std::vector<std::string> again = rig.outbox.republish(lost, 10);
  const Read everything(again[again.size() - 2]);
  CHECK(everything.message.kind == BusKind::kNamespace);
  CHECK(everything.message.text.empty());
  check_lost(again.back(), everything.message.sequence + 1, 1, 0);
}

TEST_CASE("large keys are remembered up to a bound of bytes", "[bus_outbox]") {
  Rig rig;
  const std::string key(BusOutbox::kRememberedBytesMax / 2, 'k');
  for (int i = 0; i < 5; ++i) (void)rig.invalidate(key, 0);
  const BusLost lost = rig.outbox.lost();
  CHECK(lost.everything);
  CHECK(lost.payloads.size() == 2);
}

TEST_CASE("once what was not remembered is acknowledged, nothing of it is unknown", "[bus_outbox]") {
  Rig rig;
  (void)rig.outbox.announcement(0);
  for (std::size_t i = 0; i < 2 * BusOutbox::kRememberedMax; ++i) (void)rig.invalidate("k", 0);
  rig.acknowledge(2 * BusOutbox::kRememberedMax);
  (void)rig.invalidate("last", 1);
  rig.acknowledge(1);
  const BusLost lost = rig.outbox.lost();
  CHECK_FALSE(lost.everything);
  REQUIRE(lost.payloads.size() == 1);
  check_invalidates(lost.payloads[0], 1, 2 * BusOutbox::kRememberedMax + 1, "last");
  REQUIRE(lost.streams.size() == 1);
  CHECK(lost.streams[0].last_sequence == 2 * BusOutbox::kRememberedMax);
}

TEST_CASE("heartbeats that nobody answers take no memory", "[bus_outbox]") {
  Rig rig;
  (void)rig.invalidate("a", 0);
  for (std::int64_t i = 1; i <= 100'000; ++i) REQUIRE_FALSE(rig.outbox.heartbeat(i * kHeartbeat).empty());
  CHECK(rig.outbox.awaited() == 100'001);
  rig.acknowledge(100'001);
  CHECK(rig.outbox.awaited() == 0);
  CHECK(rig.outbox.lost().payloads.empty());
}

TEST_CASE("answers that nobody asked for are ignored", "[bus_outbox]") {
  Rig rig;
  rig.outbox.acknowledged();
  CHECK(rig.outbox.refused().empty());
  CHECK(rig.outbox.awaited() == 0);
  check_ending(rig.outbox.announcement(0), BusKind::kHeartbeat, 1, 0);
}

}  // namespace nearcached::tiers::coherence
