// What the fuzz targets share: a check that stops the run, and a way to cut the input.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace nearcached::fuzz {

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// Cuts bytes into pieces as a seed has it: 0 byte by byte, otherwise a fixed pseudo-random sequence of lengths whose
// longest grows with the seed.
class Pieces {
 public:
  Pieces(std::string_view bytes, std::uint8_t seed) : rest_(bytes), state_(seed), longest_(std::size_t{1} << (seed % 8)) {}

  [[nodiscard]] bool empty() const { return rest_.empty(); }

  std::string_view next() {
    state_ = state_ * 1664525u + 1013904223u;
    const std::string_view piece = rest_.substr(0, std::min(rest_.size(), 1 + (state_ >> 16) % longest_));
    rest_.remove_prefix(piece.size());
    return piece;
  }

 private:
  std::string_view rest_;
  std::uint32_t state_;
  std::size_t longest_;
};

// A copy in a heap block of exactly its size: the address sanitizer sees a byte read too far, and a view kept too long.
class ExactCopy {
 public:
  explicit ExactCopy(std::string_view bytes) : bytes_(bytes.begin(), bytes.end()) {}
  [[nodiscard]] std::string_view view() const { return {bytes_.data(), bytes_.size()}; }

 private:
  std::vector<char> bytes_;
};

}  // namespace nearcached::fuzz
