#include "tiers/upstream/redirect.hpp"

#include <catch2/catch.hpp>
#include <string>

namespace nearcached::tiers::upstream {
namespace {

const Endpoint kAsked{"10.0.0.9", 6379};

}  // namespace

TEST_CASE("MOVED and ASK name their target", "[redirect]") {
  struct Case {
    const char* line;
    RedirectKind kind;
    Endpoint target;
  };
  const Case cases[] = {
      {"MOVED 3999 127.0.0.1:6381", RedirectKind::kMoved, {"127.0.0.1", 6381}},
      {"ASK 3999 127.0.0.1:6381", RedirectKind::kAsk, {"127.0.0.1", 6381}},
      {"MOVED 0 redis-1.example.com:1", RedirectKind::kMoved, {"redis-1.example.com", 1}},
      {"MOVED 16383 [::1]:65535", RedirectKind::kMoved, {"::1", 65535}},
      {"MOVED 3999 fe80::1:6381", RedirectKind::kMoved, {"fe80::1", 6381}},
      {"MOVED 3999 :6381", RedirectKind::kMoved, {"10.0.0.9", 6381}},
      {"ASK 3999 ?:6381", RedirectKind::kAsk, {"10.0.0.9", 6381}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.line);
    const auto redirect = parse_redirect(c.line, kAsked);
    REQUIRE(redirect);
    CHECK(redirect->kind == c.kind);
    CHECK(redirect->target == c.target);
  }
}

TEST_CASE("errors that pass by themselves are waited for", "[redirect]") {
  for (const char* line : {"TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN The cluster is down",
                           "CLUSTERDOWN Hash slot not served", "LOADING Redis is loading the dataset in memory",
                           "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                           "READONLY You can't write against a read only replica."}) {
    CAPTURE(line);
    const auto redirect = parse_redirect(line, kAsked);
    REQUIRE(redirect);
    CHECK(redirect->kind == RedirectKind::kWait);
  }
}

TEST_CASE("everything else is the client's", "[redirect]") {
  for (const char* line : {"",
                           " ",
                           "MOVED",
                           "MOVED ",
                           "MOVED 3999",
                           "MOVED 3999 ",
                           "MOVED 3999 host",
                           "MOVED 3999 host:",
                           "MOVED 3999 host:0",
                           "MOVED 3999 host:65536",
                           "MOVED 3999 host:-1",
                           "MOVED 3999 host:12x",
                           "MOVED 3999 host:1 2",
                           "ASK",
                           "ASK 1 h:x",
                           "MOVEDX 1 h:1",
                           "moved 1 h:1",
                           "XMOVED 1 h:1",
                           "ERR MOVED 1 h:1",
                           "ASKING 1 h:1",
                           "LOADINGS",
                           "ERR TRYAGAIN",
                           "MOVED x h:1",
                           "MOVED -1 h:1",
                           "MOVED 3999x h:1",
                           "WRONGTYPE Operation",
                           "NOAUTH Authentication required."}) {
    CAPTURE(line);
    CHECK_FALSE(parse_redirect(line, kAsked));
  }
}

TEST_CASE("errors that a script made up are the client's: it may have written before", "[redirect]") {
  for (const char* line : {"TRYAGAIN", "TRYAGAIN later", "LOADING my model", "CLUSTERDOWN", "MASTERDOWN", "READONLY mode"}) {
    CAPTURE(line);
    CHECK_FALSE(parse_redirect(line, kAsked));
  }
  CHECK(parse_redirect("MOVED 3999 h:1", kAsked, 3999));
  CHECK(parse_redirect("ASK 3999 h:1", kAsked, 3999));
  CHECK_FALSE(parse_redirect("MOVED 3999 h:1", kAsked, 4000));
  CHECK_FALSE(parse_redirect("ASK 399 h:1", kAsked, 3999));
}

TEST_CASE("a redirect that is cut anywhere is no other redirect than a shorter port", "[redirect]") {
  const std::string line = "MOVED 3999 127.0.0.1:6381";
  for (std::size_t cut = 0; cut < line.size(); ++cut) {
    const auto redirect = parse_redirect(std::string_view(line).substr(0, cut), kAsked);
    CAPTURE(cut);
    CHECK(redirect.has_value() == (cut > line.rfind(':') + 1));
  }
}

}  // namespace nearcached::tiers::upstream
