#include "daemon/memory_report.hpp"

#include <catch2/catch.hpp>

namespace nearcached::daemon {
namespace {

StatsSnapshot easy() {
  StatsSnapshot s;
  s.l1.bytes = 100;
  s.l1.items = 3;
  s.l1_max_bytes = 1000;
  s.buffer_bytes = 200;
  s.buffer_limit_bytes = 2000;
  s.clients = 4;
  s.clients_max = 40;
  return s;
}

}  // namespace

TEST_CASE("a memory report says what is held of what may be", "[memory]") {
  CHECK(
      memory_report(easy()) ==
      "nearcached in front of it: L1 holds 100 of 1000 bytes in 3 entries, buffers of clients and upstream connections hold "
      "200 of 2000 bytes, clients are 4 of 40.\n");
}

TEST_CASE("a memory report warns of a limit from four fifths of it on", "[memory]") {
  StatsSnapshot s = easy();
  s.buffer_limit_bytes = 1'000'000;
  s.buffer_bytes = 790'000;
  CHECK(memory_report(s).find("limits.buffer_bytes") == std::string::npos);
  s.buffer_bytes = 900'000;
  CHECK(memory_report(s).find("limits.buffer_bytes") != std::string::npos);
  CHECK(memory_report(s).find("limits.clients") == std::string::npos);
  s.clients = 40;
  CHECK(memory_report(s).find("limits.clients") != std::string::npos);
}

TEST_CASE("a memory report of what has no limit, or no L1, warns of nothing", "[memory]") {
  StatsSnapshot s = easy();
  s.l1_max_bytes = s.buffer_limit_bytes = s.clients_max = 0;
  const std::string report = memory_report(s);
  CHECK(report.find("L1 is off") != std::string::npos);
  CHECK(report.find("limits.") == std::string::npos);
}

}  // namespace nearcached::daemon
