// Comparison of keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nearcached::tiers::l1 {

// memcmp() == 0 for what keys are: short, and mostly equal where it is asked. In line, a word at a time, the last one
// overlapping.
[[nodiscard]] inline bool same_bytes(const char* a, const char* b, std::size_t n) noexcept {
  constexpr std::size_t kInLineMax = 64;
  using Word = std::uint64_t;
  const auto differ = [=](std::size_t at) {
    Word words[2];
    std::memcpy(&words[0], a + at, sizeof(Word));
    std::memcpy(&words[1], b + at, sizeof(Word));
    return words[0] ^ words[1];
  };
  if (n < sizeof(Word) || n > kInLineMax) return n == 0 || std::memcmp(a, b, n) == 0;
  Word difference = differ(n - sizeof(Word));
  for (std::size_t at = 0; at + sizeof(Word) < n; at += sizeof(Word)) difference |= differ(at);
  return difference == 0;
}

}  // namespace nearcached::tiers::l1
