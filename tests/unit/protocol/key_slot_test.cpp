#include "protocol/key_slot.hpp"

#include <catch2/catch.hpp>
#include <random>
#include <string>

using nearcached::protocol::key_slot;

namespace {

// CRC16/XMODEM bit by bit, as the specification defines it.
unsigned reference_crc16(std::string_view text) {
  unsigned crc = 0;
  for (const char c : text) {
    crc ^= static_cast<unsigned>(static_cast<unsigned char>(c)) << 8;
    for (int bit = 0; bit < 8; ++bit) crc = ((crc << 1) ^ ((crc & 0x8000u) != 0 ? 0x1021u : 0u)) & 0xFFFFu;
  }
  return crc;
}

}  // namespace

TEST_CASE("slots are those that CLUSTER KEYSLOT of Redis answers") {
  CHECK(key_slot("123456789") == 0x31C3 % 16384);  // the check value of the specification
  CHECK(key_slot("") == 0);
  CHECK(key_slot("foo") == 12182);
  CHECK(key_slot("bar") == 5061);
  CHECK(key_slot("hello") == 866);
  CHECK(key_slot("somekey") == 11058);
}

TEST_CASE("only a non-empty hash tag between the first brace and the first closing brace behind it is hashed") {
  CHECK(key_slot("{user1000}.following") == key_slot("user1000"));
  CHECK(key_slot("{user1000}.followers") == key_slot("user1000"));
  CHECK(key_slot("foo{bar}{zap}") == key_slot("bar"));
  CHECK(key_slot("foo{{bar}}zap") == key_slot("{bar"));
  CHECK(key_slot("a}b{c}d") == key_slot("c"));
  CHECK(key_slot("foo{}{bar}") == reference_crc16("foo{}{bar}") % 16384);
  CHECK(key_slot("{}") == reference_crc16("{}") % 16384);
  CHECK(key_slot("foo{bar") == reference_crc16("foo{bar") % 16384);
  CHECK(key_slot("foo}bar") == reference_crc16("foo}bar") % 16384);
  CHECK(key_slot("{") == reference_crc16("{") % 16384);
}

TEST_CASE("keys of every length and any bytes hash as the bitwise definition does") {
  std::mt19937 random(1);
  for (std::size_t length = 0; length < 70; ++length) {
    for (int round = 0; round < 50; ++round) {
      std::string key(length, '\0');
      for (char& c : key) {
        do {
          c = static_cast<char>(random());
        } while (c == '{');
      }
      REQUIRE(key_slot(key) == reference_crc16(key) % 16384);
    }
  }
}
