#include "tiers/write_behind/checksum.hpp"

#include <isa-l/crc.h>

#include <cstddef>

namespace nearcached::tiers::write_behind {

std::uint32_t checksum(std::string_view bytes) noexcept { return checksum(0, bytes); }

std::uint32_t checksum(std::uint32_t before, std::string_view bytes) noexcept {
  constexpr std::size_t kPieceMax = std::size_t{1} << 30;  // its length is an int
  std::uint32_t state = ~before;
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, kPieceMax);
    auto* const from = reinterpret_cast<unsigned char*>(const_cast<char*>(piece.data()));
    state = crc32_iscsi(from, static_cast<int>(piece.size()), state);
    bytes.remove_prefix(piece.size());
  }
  return ~state;
}

}  // namespace nearcached::tiers::write_behind
