// Numbers as the log stores them: little-endian, at any address.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nearcached::tiers::write_behind {

// Compilers make one move of each.
template <std::unsigned_integral Number>
void store_number(char* to, Number number) noexcept {
  for (std::size_t i = 0; i < sizeof(Number); ++i) to[i] = static_cast<char>((number >> (8 * i)) & 0xFFu);
}

template <std::unsigned_integral Number>
[[nodiscard]] Number load_number(const char* from) noexcept {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < sizeof(Number); ++i) {
    number |= std::uint64_t{static_cast<unsigned char>(from[i])} << (8 * i);
  }
  return static_cast<Number>(number);
}

}  // namespace nearcached::tiers::write_behind
