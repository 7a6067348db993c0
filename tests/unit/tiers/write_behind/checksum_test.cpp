#include "tiers/write_behind/checksum.hpp"

#include <catch2/catch.hpp>
#include <string>

namespace nearcached::tiers::write_behind {
namespace {

TEST_CASE("it is the CRC32C of RFC 3720", "[checksum]") {
  CHECK(checksum("") == 0);
  CHECK(checksum("123456789") == 0xe3069283u);
  CHECK(checksum(std::string(32, '\0')) == 0x8a9136aau);
  CHECK(checksum(std::string(32, '\xff')) == 0x62a8ab43u);
}

TEST_CASE("a sum goes on from what stands before, wherever it is cut and however it is aligned", "[checksum]") {
  std::string bytes;
  for (int i = 0; i < 700; ++i) bytes.push_back(static_cast<char>(i * 131 + 7));
  const std::uint32_t whole = checksum(bytes);
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    const std::string_view view = bytes;
    REQUIRE(checksum(checksum(view.substr(0, cut)), view.substr(cut)) == whole);
  }
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
