// LZ4 and Zstandard, as the compressor uses them: the only file pair that includes either.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tiers/l1/stored_reply.hpp"

namespace nearcached::tiers::l1 {

// A Zstandard dictionary, prepared for both ways. Immutable, any thread. About 110 KB for one of 16 KB: tables for packing
// (level 1) and for unpacking besides the text.
class CompressionDictionary {
 public:
  // Null without memory.
  [[nodiscard]] static std::unique_ptr<CompressionDictionary> create(std::string_view text);
  ~CompressionDictionary();
  CompressionDictionary(const CompressionDictionary&) = delete;
  CompressionDictionary& operator=(const CompressionDictionary&) = delete;

  [[nodiscard]] std::size_t bytes() const noexcept;

 private:
  friend class CompressorCodec;
  struct Prepared;
  explicit CompressionDictionary(std::unique_ptr<Prepared> prepared);

  std::unique_ptr<Prepared> prepared_;
};

// Each call is whole: bytes in, bytes out. The libraries' contexts are the thread's own, made at its first use and kept: 16
// KB for LZ4; for Zstandard 0.2 MB to unpack and up to 0.7 MB to pack replies of 1 MB. A dictionary is for Zstandard alone,
// null is none. Zstandard is used at level 1: higher ones pay with each miss for one or two hundredths (docs/decisions).
class CompressorCodec {
 public:
  // Compresses into `room` bytes. 0: it does not fit, or the library failed.
  [[nodiscard]] static std::size_t compress(Compression algorithm, const CompressionDictionary* dictionary,
                                            std::string_view plain, char* out, std::size_t room) noexcept;
  // False unless exactly `plain_bytes` came out. Never writes beyond them.
  [[nodiscard]] static bool decompress(Compression algorithm, const CompressionDictionary* dictionary,
                                       std::string_view compressed, char* out, std::size_t plain_bytes) noexcept;
  // The text of a dictionary of at most `bytes_max`; empty if the samples, which lie one behind the other, don't give one.
  // Some 50 ms for 256 KB of samples, and 10 MB meanwhile.
  [[nodiscard]] static std::string train(std::string_view samples, std::span<const std::size_t> sizes,
                                         std::size_t bytes_max);
};

}  // namespace nearcached::tiers::l1
