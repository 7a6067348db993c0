#include "protocol/plain_get.hpp"

#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

#include "protocol/request_parser.hpp"

using namespace nearcached::protocol;

namespace {

std::string request(std::string_view name, std::string_view key) {
  return "*2\r\n$" + std::to_string(name.size()) + "\r\n" + std::string(name) + "\r\n$" + std::to_string(key.size()) +
         "\r\n" + std::string(key) + "\r\n";
}

// Exactly these bytes, so that the address sanitizer finds a byte read too far.
bool taken(const std::string& input, PlainGet& get) {
  const std::vector<char> copy(input.begin(), input.end());
  const bool result = take_plain_get({copy.data(), copy.size()}, get);
  if (result)
    get.key = std::string_view(input).substr(static_cast<std::size_t>(get.key.data() - copy.data()), get.key.size());
  return result;
}

}  // namespace

TEST_CASE("a plain GET is taken, in any case, with a key of any length up to the bound") {
  for (const std::string name : {"GET", "get", "GeT"}) {
    for (const std::size_t size : {0, 1, 9, 10, 99, 100, 999}) {
      const std::string key(size, 'k');
      const std::string input = request(name, key) + "*1\r\n$4\r\nPING\r\n";
      PlainGet get;
      REQUIRE(taken(input, get));
      CHECK(get.key == key);
      CHECK(get.bytes == request(name, key).size());
    }
  }
  PlainGet get;
  CHECK_FALSE(taken(request("GET", std::string(kPlainGetKeyMax + 1, 'k')), get));
}

TEST_CASE("other commands, other forms and what is not whole are left alone") {
  PlainGet get;
  for (const char* const input :
       {"", "GET key\r\n", "*2\r\n$3\r\nSET\r\n$1\r\nk\r\n", "*2\r\n$3\r\nGE\x74_\n$1\r\nk\r\n",
        "*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$1\r\nk\r\n", "*2\r\n$3\r\nGET\r\n$01\r\nk\r\n", "*2\r\n$3\r\nGET\r\n$-1\r\nkkk\r\n",
        "*2\r\n$3\r\nGET\r\n$1\r\nkk\r\n\r\n", "*2\r\n$3\r\nGET\r\n$1\rxk\r\n\r\n", "*2\r\n$3\r\nGET\r\n:1\r\nk\r\n\r\n",
        "*2\r\n$3\r\nGET\r\n$+1\r\nk\r\n\r\n", "*2\r\n$3\r\n'ET\r\n$1\r\nk\r\n\r\n"}) {
    INFO(input);
    CHECK_FALSE(taken(input, get));
  }
  const std::string input = request("GET", "some key");
  for (std::size_t cut = 0; cut < input.size(); ++cut) CHECK_FALSE(taken(input.substr(0, cut), get));
}

TEST_CASE("whatever it takes RequestParser takes alike") {
  std::mt19937 random(7);
  const std::string seed = request("GET", "some key") + request("get", "other");
  for (int round = 0; round < 20'000; ++round) {
    std::string input = seed;
    for (int change = 0; change < 1 + round % 2; ++change)
      input[random() % input.size()] = static_cast<char>(random() % 128);
    PlainGet get;
    if (!taken(input, get)) continue;
    RequestParser parser;
    REQUIRE(parser.parse(input, {}) == ParseStatus::kComplete);
    REQUIRE(parser.args().size() == 2);
    CHECK(parser.args()[1] == get.key);
    CHECK(parser.consumed() == get.bytes);
    CHECK_FALSE(parser.is_inline());
  }
}
