// A reply as L1 holds it: plain, or packed by the compressor.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nearcached::tiers::l1 {

enum class Compression : std::uint8_t { kNone, kLz4, kZstd };

// What is in front of a packed reply's compressed bytes, 4 bytes:
//
//   [ bulk 1 | algorithm 2 | dictionary 8 | length of the plain reply 21 ]
//
// Not in the entry, so that what is not packed pays nothing. Dictionary 0 is none. `bulk`: the plain reply is a string that
// is there, which is the same in RESP2 and RESP3, so that it need not be unpacked to know.
struct PackedHeader {
  static constexpr std::size_t kBytes = 4;
  static constexpr std::size_t kPlainBytesMax = 1u << 20;  // a larger reply is kept plain: nobody waits longer for a hit

  bool bulk = false;
  Compression algorithm = Compression::kNone;
  std::uint8_t dictionary = 0;
  std::uint32_t plain_bytes = 0;

  static PackedHeader read(const char* at) noexcept {
    std::uint32_t word;
    std::memcpy(&word, at, sizeof word);
    return {(word >> 31) != 0, static_cast<Compression>(word >> 29 & 3), static_cast<std::uint8_t>(word >> 21),
            word & ((1u << 21) - 1)};
  }
  void write(char* out) const noexcept {
    const std::uint32_t word = std::uint32_t{bulk} << 31 | static_cast<std::uint32_t>(algorithm) << 29 |
                               std::uint32_t{dictionary} << 21 | plain_bytes;
    std::memcpy(out, &word, sizeof word);
  }
};

// A view that says whether it may be shown to a client. A type of its own, so that nobody takes packed bytes for a reply by
// mistake: who has one asks `packed` first and Compressor::unpack() then.
struct StoredReply {
  std::string_view bytes;
  bool packed = false;

  StoredReply() = default;
  // A plain reply, from whatever is text.
  template <std::convertible_to<std::string_view> Text>
  StoredReply(const Text& text) noexcept : bytes(text) {}
  StoredReply(std::string_view stored, bool is_packed) noexcept : bytes(stored), packed(is_packed) {}

  [[nodiscard]] PackedHeader header() const noexcept { return PackedHeader::read(bytes.data()); }
  // What it has when it is unpacked; limits of size are judged by it.
  [[nodiscard]] std::size_t plain_size() const noexcept { return packed ? header().plain_bytes : bytes.size(); }

  // Byte by byte as it is stored.
  friend bool operator==(const StoredReply&, const StoredReply&) = default;
};

}  // namespace nearcached::tiers::l1
