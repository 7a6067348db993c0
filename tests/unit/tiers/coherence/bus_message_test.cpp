#include "tiers/coherence/bus_message.hpp"

#include <catch2/catch.hpp>
#include <limits>

namespace nearcached::tiers::coherence {
namespace {

constexpr std::uint64_t kPublisher = 0x0123456789ABCDEFu;

BusMessage named(BusKind kind, std::uint64_t sequence) {
  BusMessage message;
  message.kind = kind;
  message.publisher = kPublisher;
  message.epoch = 7;
  message.sequence = sequence;
  return message;
}

std::vector<BusMessage> one_of_each() {
  std::vector<BusMessage> all;
  all.push_back(named(BusKind::kInvalidate, 1));
  all.back().keys = {"user:1", std::string_view("\0\r\n", 3), ""};
  for (const BusKind kind : {BusKind::kPrefix, BusKind::kTag, BusKind::kNamespace}) {
    all.push_back(named(kind, 2));
    all.back().text = "user:";
  }
  for (const BusKind kind : {BusKind::kHeartbeat, BusKind::kBye}) {
    all.push_back(named(kind, 0));
    all.back().last_sequence = 41;
  }
  all.push_back(named(BusKind::kLost, std::numeric_limits<std::uint64_t>::max()));
  all.back().lost_epoch = 6;
  all.back().last_sequence = 1000;
  return all;
}

bool equal(const BusMessage& a, const BusMessage& b) {
  return a.kind == b.kind && a.publisher == b.publisher && a.epoch == b.epoch && a.sequence == b.sequence &&
         a.keys == b.keys && a.text == b.text && a.last_sequence == b.last_sequence && a.lost_epoch == b.lost_epoch;
}

// The payload with the checksum that its other bytes deserve: what is wrong with it is not caught by the checksum.
std::string with_checksum(std::string payload) {
  std::uint32_t sum = 2166136261u;
  for (std::size_t i = 0; i + 4 < payload.size(); ++i) sum = (sum ^ static_cast<unsigned char>(payload[i])) * 16777619u;
  for (std::size_t i = 0; i < 4; ++i) payload[payload.size() - 4 + i] = static_cast<char>((sum >> (8 * i)) & 0xFFu);
  return payload;
}

BusDecoded decoded(std::string_view payload) {
  BusMessage message;
  return decode_bus_message(payload, message);
}

std::string hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const char byte : bytes) {
    text += kDigits[static_cast<unsigned char>(byte) >> 4];
    text += kDigits[static_cast<unsigned char>(byte) & 15];
  }
  return text;
}

}  // namespace

TEST_CASE("every kind of message comes back as it was sent", "[bus_message]") {
  BusMessage read;
  for (const BusMessage& sent : one_of_each()) {
    const std::string payload = encode_bus_message(sent);
    REQUIRE(decode_bus_message(payload, read) == BusDecoded::kGood);
    CHECK(equal(read, sent));
  }
}

TEST_CASE("the bytes of a message are those of docs/bus_protocol.md", "[bus_message]") {
  BusMessage message = named(BusKind::kInvalidate, 3);
  message.keys = {"k1", "user:7"};
  CHECK(hex(encode_bus_message(message)) ==
        "01"
        "01"
        "efcdab8967452301"
        "07000000"
        "0300000000000000"
        "02000000"
        "02000000"
        "6b31"
        "06000000"
        "757365723a37"
        "9558ba9e");
}

TEST_CASE("no message cut short is taken for one", "[bus_message]") {
  for (const BusMessage& sent : one_of_each()) {
    const std::string payload = encode_bus_message(sent);
    for (std::size_t length = 0; length < payload.size(); ++length) {
      CHECK(decoded(std::string_view(payload).substr(0, length)) == BusDecoded::kDamaged);
    }
    CHECK(decoded(payload + '\0') == BusDecoded::kDamaged);
  }
}

TEST_CASE("no message with a flipped bit is taken for one", "[bus_message]") {
  for (const BusMessage& sent : one_of_each()) {
    std::string payload = encode_bus_message(sent);
    for (std::size_t bit = 0; bit < payload.size() * 8; ++bit) {
      payload[bit / 8] = static_cast<char>(payload[bit / 8] ^ (1 << (bit % 8)));
      CHECK(decoded(payload) == (bit < 8 ? BusDecoded::kOtherVersion : BusDecoded::kDamaged));
      payload[bit / 8] = static_cast<char>(payload[bit / 8] ^ (1 << (bit % 8)));
    }
    CHECK(decoded(payload) == BusDecoded::kGood);
  }
}

TEST_CASE("what has a good checksum and makes no sense is damaged", "[bus_message]") {
  for (const BusMessage& sent : one_of_each()) {
    const std::string good = encode_bus_message(sent);
    REQUIRE(with_checksum(good) == good);

    std::string cut = good.substr(0, good.size() - 1);
    CHECK(decoded(with_checksum(cut)) == BusDecoded::kDamaged);
    CHECK(decoded(with_checksum(good + "x")) == BusDecoded::kDamaged);

    for (const int kind : {0, 8, 255}) {
      std::string strange = good;
      strange[1] = static_cast<char>(kind);
      CHECK(decoded(with_checksum(strange)) == BusDecoded::kDamaged);
    }

    std::string nameless = good;
    nameless.replace(10, 4, 4, '\0');
    CHECK(decoded(with_checksum(nameless)) == BusDecoded::kDamaged);

    std::string unnumbered = good;
    unnumbered.replace(14, 8, 8, '\0');
    const bool numbered = sent.sequence != 0;
    CHECK(decoded(with_checksum(unnumbered)) == (numbered ? BusDecoded::kDamaged : BusDecoded::kGood));
  }
}

TEST_CASE("lengths and counts that lie are damage, however large", "[bus_message]") {
  BusMessage message = named(BusKind::kInvalidate, 1);
  message.keys = {"abc"};
  const std::string good = encode_bus_message(message);
  for (const std::size_t at : {std::size_t{22}, std::size_t{26}}) {  // the count; the key's length
    for (const std::string& number : {std::string("\0\0\0\0", 4), std::string("\x02\0\0\0", 4), std::string("\x04\0\0\0", 4),
                                      std::string("\xff\xff\xff\x7f", 4), std::string("\xff\xff\xff\xff", 4)}) {
      std::string lie = good;
      lie.replace(at, 4, number);
      CHECK(decoded(with_checksum(lie)) == BusDecoded::kDamaged);
    }
  }
}

TEST_CASE("as many keys as the bound are read, one more is damage", "[bus_message]") {
  BusMessage message = named(BusKind::kInvalidate, 1);
  message.keys.assign(kBusKeysMax, "k");
  CHECK(decoded(encode_bus_message(message)) == BusDecoded::kGood);
  message.keys.push_back("k");
  CHECK(decoded(encode_bus_message(message)) == BusDecoded::kDamaged);
}

TEST_CASE("nothing of an earlier message is left in a later one", "[bus_message]") {
  BusMessage read;
  std::vector<BusMessage> all = one_of_each();
  for (const BusMessage& earlier : all) {
    for (const BusMessage& later : all) {
      const std::string first = encode_bus_message(earlier);
      const std::string second = encode_bus_message(later);
      REQUIRE(decode_bus_message(first, read) == BusDecoded::kGood);
      REQUIRE(decode_bus_message(second, read) == BusDecoded::kGood);
      CHECK(equal(read, later));
    }
  }
}

}  // namespace nearcached::tiers::coherence
