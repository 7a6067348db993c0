#include "tiers/l1/stored_reply.hpp"

#include <catch2/catch.hpp>

namespace nearcached::tiers::l1 {
namespace {

TEST_CASE("each part of a packed reply's header comes back, at both ends of its range", "[compressor]") {
  char bytes[PackedHeader::kBytes];
  for (const bool bulk : {false, true}) {
    for (const Compression algorithm : {Compression::kNone, Compression::kLz4, Compression::kZstd}) {
      for (const int dictionary : {0, 1, 127, 128, 255}) {
        for (const std::size_t size : {std::size_t{0}, std::size_t{1}, PackedHeader::kPlainBytesMax}) {
          PackedHeader{bulk, algorithm, static_cast<std::uint8_t>(dictionary), static_cast<std::uint32_t>(size)}.write(
              bytes);
          const PackedHeader read = PackedHeader::read(bytes);
          REQUIRE(read.bulk == bulk);
          REQUIRE(read.algorithm == algorithm);
          REQUIRE(read.dictionary == dictionary);
          REQUIRE(read.plain_bytes == size);
        }
      }
    }
  }
}

TEST_CASE("a plain reply's size is what it has, a packed one's what it will have", "[compressor]") {
  CHECK(StoredReply("$1\r\na\r\n").plain_size() == 7);
  CHECK_FALSE(StoredReply("$1\r\na\r\n").packed);
  char bytes[10];
  PackedHeader{true, Compression::kLz4, 0, 5000}.write(bytes);
  CHECK(StoredReply(std::string_view(bytes, 10), true).plain_size() == 5000);
  CHECK_FALSE(StoredReply(std::string_view(bytes, 10), true) == StoredReply(std::string_view(bytes, 10), false));
}

}  // namespace
}  // namespace nearcached::tiers::l1
