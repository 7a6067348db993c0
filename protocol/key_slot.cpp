#include "protocol/key_slot.hpp"

#include <array>
#include <cstddef>

namespace nearcached::protocol {
namespace {

constexpr std::uint16_t kPolynomial = 0x1021;

// tables[0] is the usual byte table; tables[k][b] is the CRC of byte b followed by k zero bytes. With four of them, four
// bytes of the key take one step ("slicing-by-4", Kounavis and Berry 2005): each step's lookups do not wait for each other.
using Tables = std::array<std::array<std::uint16_t, 256>, 4>;

constexpr Tables make_tables() {
  Tables tables{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    unsigned crc = byte << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 0x8000u) != 0 ? (crc << 1) ^ kPolynomial : crc << 1;
    tables[0][byte] = static_cast<std::uint16_t>(crc);
  }
  for (std::size_t k = 1; k < tables.size(); ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const unsigned crc = tables[k - 1][byte];
      tables[k][byte] = static_cast<std::uint16_t>((crc << 8) ^ tables[0][crc >> 8]);
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

std::uint16_t crc16(std::string_view text) {
  unsigned crc = 0;
  const auto byte = [&text](std::size_t at) { return static_cast<unsigned>(static_cast<unsigned char>(text[at])); };
  std::size_t at = 0;
  for (; text.size() - at >= 4; at += 4) {
    crc = static_cast<unsigned>(kTables[3][(crc >> 8) ^ byte(at)] ^ kTables[2][(crc & 0xFFu) ^ byte(at + 1)] ^
                                kTables[1][byte(at + 2)] ^ kTables[0][byte(at + 3)]);
  }
  for (; at < text.size(); ++at) crc = ((crc << 8) & 0xFFFFu) ^ kTables[0][(crc >> 8) ^ byte(at)];
  return static_cast<std::uint16_t>(crc);
}

}  // namespace

std::uint16_t key_slot(std::string_view key) {
  const std::size_t open = key.find('{');
  if (open != std::string_view::npos) {
    const std::size_t close = key.find('}', open + 1);
    if (close != std::string_view::npos && close > open + 1) key = key.substr(open + 1, close - open - 1);
  }
  return crc16(key) & (kSlotCount - 1);
}

}  // namespace nearcached::protocol
