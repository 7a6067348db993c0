#include "daemon/client_pause.hpp"

#include <catch2/catch.hpp>

#include <vector>

namespace nearcached::daemon {
namespace {

using Kind = ClientPause::Kind;
using Args = std::vector<std::string_view>;

constexpr bool kWrite = true;
constexpr bool kRead = false;

std::string error_of(const Args& args) {
  PauseRequest request;
  return parse_client_pause(args, request);
}

}  // namespace

TEST_CASE("a pause of writes holds writes until its end", "[pause]") {
  ClientPause pause;
  CHECK_FALSE(pause.begun());
  CHECK_FALSE(pause.holds(kWrite, 10));
  pause.begin(Kind::kWrites, 100, 10);
  CHECK(pause.begun());
  CHECK(pause.holds(kWrite, 99));
  CHECK_FALSE(pause.holds(kRead, 99));
  CHECK_FALSE(pause.holds(kWrite, 100));
}

TEST_CASE("a second pause makes the first neither shorter nor narrower", "[pause]") {
  ClientPause pause;
  pause.begin(Kind::kAll, 100, 10);
  pause.begin(Kind::kWrites, 50, 20);
  CHECK(pause.holds(kRead, 99));
  pause.begin(Kind::kWrites, 200, 30);
  CHECK(pause.holds(kRead, 199));
}

TEST_CASE("a pause that is over widens nothing", "[pause]") {
  ClientPause pause;
  pause.begin(Kind::kAll, 100, 10);
  pause.begin(Kind::kWrites, 300, 100);
  CHECK_FALSE(pause.holds(kRead, 150));
  CHECK(pause.holds(kWrite, 150));
}

TEST_CASE("a pause can be ended", "[pause]") {
  ClientPause pause;
  pause.begin(Kind::kAll, 100, 10);
  pause.end();
  CHECK_FALSE(pause.holds(kWrite, 20));
  pause.begin(Kind::kWrites, 100, 30);
  CHECK_FALSE(pause.holds(kRead, 40));
}

TEST_CASE("CLIENT PAUSE takes a timeout and a kind", "[pause]") {
  PauseRequest request;
  CHECK(parse_client_pause(Args{"CLIENT", "PAUSE", "15"}, request).empty());
  CHECK(request.timeout_ms == 15);
  CHECK(request.kind == Kind::kAll);
  CHECK(parse_client_pause(Args{"CLIENT", "PAUSE", "0", "write"}, request).empty());
  CHECK(request.kind == Kind::kWrites);
  CHECK(parse_client_pause(Args{"CLIENT", "PAUSE", "0", "ALL"}, request).empty());
  CHECK(request.kind == Kind::kAll);
}

TEST_CASE("CLIENT PAUSE's mistakes have Redis's words", "[pause]") {
  for (const char* wrong : {"", "x", "1x", "1.5", "99999999999999999999"}) {
    CHECK(error_of({"CLIENT", "PAUSE", wrong}) == "ERR timeout is not an integer or out of range");
  }
  CHECK(error_of({"CLIENT", "PAUSE", "-1"}) == "ERR timeout is negative");
  CHECK(error_of({"CLIENT", "PAUSE", "x", "y"}) == "ERR CLIENT PAUSE mode must be WRITE or ALL");
  CHECK(error_of({"client", "Pause", "1", "ALL", "x"}) ==
        "ERR unknown subcommand or wrong number of arguments for 'Pause'. Try CLIENT HELP.");
}

}  // namespace nearcached::daemon
