#include "tiers/coherence/bus_inbox.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <string>

namespace nearcached::tiers::coherence {
namespace {

constexpr std::uint64_t kOwn = 1;
constexpr std::uint64_t kPeer = 2;
constexpr std::int64_t kSilence = 1'000'000;
constexpr std::int64_t kForever = std::numeric_limits<std::int64_t>::max();
using Action = BusInbox::Action;

std::string invalidate(std::uint64_t publisher, std::uint32_t epoch, std::uint64_t sequence, std::string_view key = "k") {
  BusMessage message;
  message.kind = BusKind::kInvalidate;
  message.publisher = publisher;
  message.epoch = epoch;
  message.sequence = sequence;
  message.keys = {key};
  return encode_bus_message(message);
}

std::string ending_in(BusKind kind, std::uint64_t publisher, std::uint32_t epoch, std::uint64_t last) {
  BusMessage message;
  message.kind = kind;
  message.publisher = publisher;
  message.epoch = epoch;
  message.last_sequence = last;
  return encode_bus_message(message);
}

std::string heartbeat(std::uint64_t publisher, std::uint32_t epoch, std::uint64_t last) {
  return ending_in(BusKind::kHeartbeat, publisher, epoch, last);
}

std::string bye(std::uint64_t publisher, std::uint32_t epoch, std::uint64_t last) {
  return ending_in(BusKind::kBye, publisher, epoch, last);
}

std::string text(BusKind kind, std::uint64_t sequence, std::string_view words) {
  BusMessage message;
  message.kind = kind;
  message.publisher = kPeer;
  message.epoch = 1;
  message.sequence = sequence;
  message.text = words;
  return encode_bus_message(message);
}

std::string lost(std::uint32_t epoch, std::uint64_t sequence, std::uint32_t lost_epoch, std::uint64_t last) {
  BusMessage message;
  message.kind = BusKind::kLost;
  message.publisher = kPeer;
  message.epoch = epoch;
  message.sequence = sequence;
  message.lost_epoch = lost_epoch;
  message.last_sequence = last;
  return encode_bus_message(message);
}

// Subscribed at 0 and settled at kSilence, which is the present.
struct Settled {
  BusInbox inbox{{kOwn, kSilence}};
  std::int64_t now = kSilence;
  Settled() {
    inbox.subscribed(0);
    REQUIRE(inbox.tick(kSilence));
    REQUIRE(inbox.settled());
  }
  [[nodiscard]] bool gap(const std::string& payload) { return inbox.on_message(payload, now).gap; }
};

}  // namespace

TEST_CASE("keys are told in order, whatever their bytes", "[bus_inbox]") {
  Settled settled;
  BusMessage message;
  message.kind = BusKind::kInvalidate;
  message.publisher = kPeer;
  message.epoch = 1;
  message.sequence = 1;
  message.keys = {"a", std::string_view("\0{}\r\n", 5), ""};
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  const std::string payload = encode_bus_message(message);
  const BusInbox::Outcome outcome = settled.inbox.on_message(payload, settled.now);
  CHECK_FALSE(outcome.gap);
  CHECK(outcome.action == Action::kKeys);
  CHECK(std::vector<std::string_view>(outcome.keys.begin(), outcome.keys.end()) == message.keys);
}

TEST_CASE("a prefix is told as such, tags and namespaces drop everything", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  const std::string prefix = text(BusKind::kPrefix, 1, "user:");
  const BusInbox::Outcome outcome = settled.inbox.on_message(prefix, settled.now);
  CHECK(outcome.action == Action::kPrefix);
  CHECK(outcome.text == "user:");
  CHECK(settled.inbox.on_message(text(BusKind::kTag, 2, "t"), settled.now).action == Action::kAll);
  CHECK(settled.inbox.on_message(text(BusKind::kNamespace, 3, ""), settled.now).action == Action::kAll);
  CHECK(settled.inbox.on_message(heartbeat(kPeer, 1, 3), settled.now).action == Action::kNothing);
  CHECK(settled.inbox.stats().gaps_sequence == 0);
}

TEST_CASE("a number that is missing is a gap once, and the keys behind it are told all the same", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 1)));
  const std::string third = invalidate(kPeer, 1, 3, "x");
  const BusInbox::Outcome outcome = settled.inbox.on_message(third, settled.now);
  CHECK(outcome.gap);
  CHECK(outcome.action == Action::kKeys);
  CHECK(outcome.keys[0] == "x");
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 4)));
  CHECK(settled.inbox.stats().gaps_sequence == 1);
}

TEST_CASE("a heartbeat shows the last message missing", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 1)));
  CHECK(settled.gap(heartbeat(kPeer, 1, 2)));
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 2)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 3)));
}

TEST_CASE("a number that comes again or goes back means two who share a name", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 1)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 2)));
  CHECK(settled.gap(invalidate(kPeer, 1, 2)));
  CHECK(settled.gap(heartbeat(kPeer, 1, 1)));
  CHECK(settled.gap(heartbeat(kPeer, 1, 0)));
}

TEST_CASE("the last numbers there are don't come round", "[bus_inbox]") {
  constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();
  BusInbox inbox({kOwn, kSilence});
  inbox.subscribed(0);
  CHECK_FALSE(inbox.on_message(invalidate(kPeer, 1, kLast - 1), 0).gap);
  CHECK_FALSE(inbox.on_message(invalidate(kPeer, 1, kLast), 0).gap);
  CHECK_FALSE(inbox.on_message(heartbeat(kPeer, 1, kLast), 0).gap);
  CHECK(inbox.on_message(invalidate(kPeer, 1, 1), 0).gap);
  CHECK(inbox.on_message(heartbeat(kPeer, 0xFFFFFFFFu, 0), 0).gap == false);
}

TEST_CASE("streams are told apart by publisher and by epoch, in any interleaving", "[bus_inbox]") {
  Settled settled;
  for (std::uint64_t sequence = 0; sequence <= 50; ++sequence) {
    for (std::uint64_t publisher = 10; publisher < 14; ++publisher) {
      for (std::uint32_t epoch = 1; epoch <= 3; ++epoch) {
        CHECK_FALSE(settled.gap(sequence == 0 ? heartbeat(publisher, epoch, 0) : invalidate(publisher, epoch, sequence)));
      }
    }
  }
  CHECK(settled.inbox.streams() == 12);
  CHECK(settled.gap(invalidate(12, 2, 52)));
  CHECK_FALSE(settled.gap(invalidate(12, 3, 51)));
  CHECK_FALSE(settled.gap(invalidate(13, 2, 51)));
}

TEST_CASE("messages of this process are not applied, and are no stream", "[bus_inbox]") {
  Settled settled;
  settled.now += 5;
  const std::string own = invalidate(kOwn, 9, 77);
  const BusInbox::Outcome outcome = settled.inbox.on_message(own, settled.now);
  CHECK_FALSE(outcome.gap);
  CHECK(outcome.action == Action::kNothing);
  CHECK(settled.inbox.streams() == 0);
  CHECK_FALSE(settled.inbox.tick(kForever / 2));
}

TEST_CASE("damage and other versions are a gap of everything", "[bus_inbox]") {
  Settled settled;
  std::string newer = invalidate(kPeer, 1, 1);
  newer[0] = 2;
  std::string damaged = invalidate(kOwn, 1, 1);  // whose it was is not to be trusted either
  damaged[5] ^= 1;
  for (const std::string& payload : {newer, damaged, std::string(), std::string("hello")}) {
    const BusInbox::Outcome outcome = settled.inbox.on_message(payload, settled.now);
    CHECK(outcome.gap);
    CHECK(outcome.action == Action::kAll);
    CHECK(outcome.keys.empty());
  }
  CHECK(settled.inbox.stats().damaged == 2);
  CHECK(settled.inbox.stats().other_version == 2);
}

TEST_CASE("silence is noticed exactly when it is due, once, and the stream forgotten", "[bus_inbox]") {
  Settled settled;
  CHECK(settled.inbox.sound_until_us() > kForever / 2);
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  settled.now += 10;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 2, 0)));
  CHECK(settled.inbox.sound_until_us() == kSilence + kSilence);
  CHECK_FALSE(settled.inbox.tick(2 * kSilence - 1));
  CHECK(settled.inbox.tick(2 * kSilence));
  CHECK(settled.inbox.streams() == 1);
  CHECK(settled.inbox.sound_until_us() == 2 * kSilence + 10);
  CHECK_FALSE(settled.inbox.tick(2 * kSilence + 9));
  CHECK(settled.inbox.tick(2 * kSilence + 10));
  CHECK_FALSE(settled.inbox.tick(10 * kSilence));
  CHECK(settled.inbox.stats().gaps_silence == 2);
  CHECK(settled.inbox.sound_until_us() > kForever / 2);
}

TEST_CASE("any message keeps its stream, and only its stream, from being silent", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 2, 0)));
  settled.now += kSilence - 1;
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 1)));
  CHECK(settled.inbox.tick(2 * kSilence));
  CHECK(settled.inbox.streams() == 1);
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 2)));
}

TEST_CASE("a stream that ends with everything heard is not missed", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 1)));
  CHECK_FALSE(settled.gap(bye(kPeer, 1, 1)));
  CHECK(settled.inbox.streams() == 0);
  CHECK_FALSE(settled.inbox.tick(10 * kSilence));
}

TEST_CASE("an end that says more than was heard is a gap", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK(settled.gap(bye(kPeer, 1, 1)));
  CHECK(settled.inbox.streams() == 0);
  CHECK(settled.gap(bye(kPeer, 2, 5)));  // and so is the end of a stream that was never heard
  CHECK_FALSE(settled.gap(bye(kPeer, 3, 0)));
  CHECK(settled.inbox.streams() == 0);
}

TEST_CASE("within the settling time streams are joined at any number, at its end there is one gap", "[bus_inbox]") {
  BusInbox inbox({kOwn, kSilence});
  CHECK_FALSE(inbox.tick(50 * kSilence));  // not subscribed: nothing to settle
  inbox.subscribed(100);
  CHECK(inbox.sound_until_us() == 100 + kSilence);
  CHECK_FALSE(inbox.on_message(invalidate(kPeer, 1, 500), 200).gap);
  CHECK_FALSE(inbox.on_message(heartbeat(kPeer, 2, 70), 200).gap);
  CHECK_FALSE(inbox.on_message(bye(kPeer, 3, 9), 200).gap);
  CHECK(inbox.on_message(invalidate(kPeer, 1, 502), 200).gap);  // what was joined is followed at once
  CHECK_FALSE(inbox.tick(99 + kSilence));
  CHECK_FALSE(inbox.settled());
  CHECK(inbox.tick(100 + kSilence));
  CHECK(inbox.settled());
  CHECK_FALSE(inbox.tick(101 + kSilence));
}

TEST_CASE("later a stream must be heard from its announcement", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK(settled.gap(invalidate(kPeer, 2, 1)));
  CHECK(settled.gap(heartbeat(kPeer, 3, 1)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 2, 2)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 3, 2)));
}

TEST_CASE("a stream that was silent and goes on is a gap again", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 1)));
  CHECK(settled.inbox.tick(2 * kSilence));
  settled.now = 2 * kSilence;
  CHECK(settled.gap(heartbeat(kPeer, 1, 1)));  // nobody knows what it said in between
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 1)));
}

TEST_CASE("a broken stream that was heard as far as it is known is no gap, nor silent later", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 1)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 2)));
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 2, 0)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 2, 1)));
  CHECK_FALSE(settled.gap(lost(2, 2, 1, 1)));
  CHECK(settled.inbox.streams() == 1);
  CHECK_FALSE(settled.gap(bye(kPeer, 2, 2)));
  CHECK_FALSE(settled.inbox.tick(10 * kSilence));
}

TEST_CASE("a broken stream that had said more is a gap, known or not", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 2, 0)));
  CHECK(settled.gap(lost(2, 1, 1, 1)));
  CHECK_FALSE(settled.gap(lost(2, 2, 8, 0)));  // one that had said nothing
  CHECK(settled.gap(lost(2, 3, 9, 1)));
  CHECK(settled.gap(lost(2, 4, 0, 1)));  // what went to another channel
  CHECK(settled.inbox.stats().gaps_lost == 3);
  CHECK(settled.inbox.stats().gaps_sequence == 0);
}

TEST_CASE("that a stream broke may be told twice, and of a stream that ended in order", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK_FALSE(settled.gap(invalidate(kPeer, 1, 1)));
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 2, 0)));
  CHECK_FALSE(settled.gap(lost(2, 1, 1, 1)));
  CHECK_FALSE(settled.gap(lost(2, 2, 1, 1)));
  CHECK(settled.gap(lost(2, 3, 1, 2)));
  CHECK_FALSE(settled.gap(lost(2, 4, 1, 2)));
  CHECK_FALSE(settled.gap(bye(kPeer, 2, 4)));
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 3, 0)));
  CHECK_FALSE(settled.gap(lost(3, 1, 2, 4)));
}

TEST_CASE("what a broken connection had on the way is told in order, and doesn't make its stream live again",
          "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 2, 0)));
  CHECK_FALSE(settled.gap(lost(2, 1, 1, 0)));
  const std::string late = invalidate(kPeer, 1, 1, "x");
  const BusInbox::Outcome outcome = settled.inbox.on_message(late, settled.now);
  CHECK_FALSE(outcome.gap);
  CHECK(outcome.keys[0] == "x");
  CHECK(settled.gap(invalidate(kPeer, 1, 3)));
  CHECK_FALSE(settled.gap(bye(kPeer, 2, 1)));
  CHECK(settled.inbox.streams() == 0);
  CHECK_FALSE(settled.inbox.tick(10 * kSilence));
}

TEST_CASE("streams that ended are forgotten in the end, and then they are unknown", "[bus_inbox]") {
  Settled settled;
  for (std::uint32_t epoch = 1; epoch <= BusInbox::kEndedMax + 1; ++epoch) {
    REQUIRE_FALSE(settled.gap(heartbeat(kPeer, epoch, 0)));
    REQUIRE_FALSE(settled.gap(invalidate(kPeer, epoch, 1)));
    REQUIRE_FALSE(settled.gap(bye(kPeer, epoch, 1)));
  }
  constexpr std::uint32_t kTeller = 1'000'000;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, kTeller, 0)));
  CHECK_FALSE(settled.gap(lost(kTeller, 1, 2, 1)));
  CHECK(settled.gap(lost(kTeller, 2, 1, 1)));
}

TEST_CASE("the news of a broken stream is numbered: to miss it is a gap", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 2, 0)));
  CHECK(settled.gap(heartbeat(kPeer, 2, 1)));
}

TEST_CASE("before it has settled an inbox leaves broken streams it never heard to the settling", "[bus_inbox]") {
  BusInbox inbox({kOwn, kSilence});
  inbox.subscribed(0);
  CHECK_FALSE(inbox.on_message(heartbeat(kPeer, 2, 0), 1).gap);
  CHECK_FALSE(inbox.on_message(lost(2, 1, 1, 100), 2).gap);
  CHECK(inbox.tick(kSilence));
}

TEST_CASE("a new subscription forgets what was known and settles again", "[bus_inbox]") {
  Settled settled;
  CHECK_FALSE(settled.gap(heartbeat(kPeer, 1, 0)));
  settled.inbox.clear();
  CHECK(settled.inbox.streams() == 0);
  CHECK_FALSE(settled.inbox.tick(5 * kSilence));
  settled.inbox.subscribed(5 * kSilence);
  CHECK_FALSE(settled.inbox.settled());
  CHECK_FALSE(settled.inbox.on_message(invalidate(kPeer, 1, 44), 5 * kSilence).gap);
  CHECK(settled.inbox.tick(6 * kSilence));
}

TEST_CASE("thousands of streams are followed, each silence is found in its time", "[bus_inbox]") {
  Settled settled;
  for (std::uint64_t i = 0; i < BusInbox::kStreamsMax; ++i) {
    settled.now = kSilence + static_cast<std::int64_t>(i);
    REQUIRE_FALSE(settled.gap(heartbeat(100 + i, 1, 0)));
  }
  REQUIRE(settled.inbox.streams() == BusInbox::kStreamsMax);
  for (std::uint64_t i = 0; i < BusInbox::kStreamsMax; ++i) {
    const std::int64_t due = 2 * kSilence + static_cast<std::int64_t>(i);
    REQUIRE(settled.inbox.sound_until_us() == due);
    REQUIRE_FALSE(settled.inbox.tick(due - 1));
    REQUIRE(settled.inbox.tick(due));
  }
  CHECK(settled.inbox.streams() == 0);
}

TEST_CASE("streams beyond the bound are gaps whenever they speak, and when they are silent", "[bus_inbox]") {
  Settled settled;
  for (std::uint64_t i = 0; i < BusInbox::kStreamsMax; ++i) REQUIRE_FALSE(settled.gap(heartbeat(100 + i, 1, 0)));
  settled.now += kSilence / 2;
  CHECK(settled.gap(heartbeat(99, 1, 0)));
  const std::string message = invalidate(99, 1, 1);
  const BusInbox::Outcome outcome = settled.inbox.on_message(message, settled.now);
  CHECK(outcome.gap);
  CHECK(outcome.action == Action::kKeys);
  CHECK(settled.inbox.streams() == BusInbox::kStreamsMax);
  CHECK(settled.inbox.stats().gaps_crowded == 2);
  CHECK_FALSE(settled.gap(invalidate(100, 1, 1)));  // those who have a place are followed as before
  for (std::uint64_t i = 0; i < BusInbox::kStreamsMax; ++i) (void)settled.gap(bye(100 + i, 1, i == 0 ? 1 : 0));
  CHECK(settled.inbox.streams() == 0);
  CHECK(settled.inbox.sound_until_us() == settled.now + kSilence);
  CHECK_FALSE(settled.inbox.tick(settled.now + kSilence - 1));
  CHECK(settled.inbox.tick(settled.now + kSilence));
  CHECK_FALSE(settled.inbox.tick(settled.now + 2 * kSilence));
}

}  // namespace nearcached::tiers::coherence
