#include "daemon/gather.hpp"

#include <catch2/catch.hpp>
#include <set>
#include <string>

namespace nearcached::daemon {
namespace {

using protocol::Merge;
using protocol::RespVersion;

constexpr std::size_t kNoLimit = ~std::size_t{0};

// Adds whole replies, one per part, in this order of parts; the reply is due with the last and not before.
std::string gather(Gather& gather, std::initializer_list<std::pair<std::size_t, std::string>> replies) {
  std::size_t left = replies.size();
  for (const auto& [part, bytes] : replies) {
    --left;
    REQUIRE(gather.add(part, bytes, true) == (left == 0));
  }
  return gather.reply();
}

}  // namespace

TEST_CASE("numbers of the parts are added", "[gather]") {
  Gather sum(Merge::kSum, RespVersion::kResp2, 3, kNoLimit);
  CHECK(gather(sum, {{2, ":3\r\n"}, {0, ":0\r\n"}, {1, ":40\r\n"}}) == ":43\r\n");
}

TEST_CASE("parts may come in pieces and interleaved", "[gather]") {
  const std::string a = ":12\r\n";
  const std::string b = ":30\r\n";
  for (std::size_t cut_a = 0; cut_a <= a.size(); ++cut_a) {
    for (std::size_t cut_b = 0; cut_b <= b.size(); ++cut_b) {
      Gather sum(Merge::kSum, RespVersion::kResp2, 2, kNoLimit);
      REQUIRE_FALSE(sum.add(0, a.substr(0, cut_a), false));
      REQUIRE_FALSE(sum.add(1, b.substr(0, cut_b), false));
      REQUIRE_FALSE(sum.add(0, a.substr(cut_a), true));
      REQUIRE(sum.add(1, b.substr(cut_b), true));
      REQUIRE(sum.reply() == ":42\r\n");
      REQUIRE(sum.bytes() == a.size() + b.size());
    }
  }
}

TEST_CASE("any part's error is the reply, the first to come, whoever succeeds later", "[gather]") {
  for (const Merge merge : {Merge::kSum, Merge::kAllSucceeded, Merge::kLogicalAnd, Merge::kConcatenate, Merge::kByKey}) {
    Gather g(merge, RespVersion::kResp2, 3, kNoLimit);
    if (merge == Merge::kByKey) {
      g.set_elements(3);
      for (std::uint32_t part = 0; part < 3; ++part) g.set_places(part, {part});
    }
    const std::string good = merge == Merge::kSum ? ":1\r\n" : "*1\r\n:1\r\n";
    CHECK(gather(g, {{0, good}, {2, "-OOM first\r\n"}, {1, "-ERR second\r\n"}}) == "-OOM first\r\n");
  }
}

TEST_CASE("a part without an answer is an error too, and ends the part once", "[gather]") {
  Gather g(Merge::kAllSucceeded, RespVersion::kResp2, 2, kNoLimit);
  REQUIRE_FALSE(g.add(1, "+O", false));
  REQUIRE_FALSE(g.fail(1, "ERR lost\r\nits way"));
  REQUIRE(g.add(0, "+OK\r\n", true));
  const std::string reply = g.reply();
  CHECK(reply.substr(0, 9) == "-ERR lost");
  CHECK(reply.find("\r\n") == reply.size() - 2);  // one line
}

TEST_CASE("all succeeded: the first reply stands for all", "[gather]") {
  Gather g(Merge::kAllSucceeded, RespVersion::kResp2, 2, kNoLimit);
  CHECK(gather(g, {{1, "+OK\r\n"}, {0, "+OK\r\n"}}) == "+OK\r\n");
}

TEST_CASE("elements go back to the places of their keys", "[gather]") {
  Gather g(Merge::kByKey, RespVersion::kResp2, 3, kNoLimit);
  g.set_elements(5);
  g.set_places(0, {4, 0});
  g.set_places(1, {1, 3});
  g.set_places(2, {2});
  CHECK(gather(g, {{1, "*2\r\n$1\r\nb\r\n$-1\r\n"}, {2, "$4\r\nc\r\nc\r\n"}, {0, "*2\r\n$1\r\ne\r\n$0\r\n\r\n"}}) ==
        "*5\r\n$0\r\n\r\n$1\r\nb\r\n$4\r\nc\r\nc\r\n$-1\r\n$1\r\ne\r\n");
}

TEST_CASE("elements answered here and elements of the upstream make one reply", "[gather]") {
  Gather g(Merge::kByKey, RespVersion::kResp2, 3, kNoLimit);
  g.set_elements(3);
  g.set_places(1, {1});
  REQUIRE_FALSE(g.put(0, "$1\r\na\r\n"));
  REQUIRE_FALSE(g.add(1, "$1\r\n", false));
  REQUIRE_FALSE(g.put(2, "$1\r\nc\r\n"));
  REQUIRE(g.add(1, "b\r\n", true));
  CHECK(g.reply() == "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
}

TEST_CASE("a nil is spelled as the client's protocol has it", "[gather]") {
  for (const auto& [version, null] : {std::pair(RespVersion::kResp2, "$-1\r\n"), std::pair(RespVersion::kResp3, "_\r\n")}) {
    for (const std::string sent : {"$-1\r\n", "_\r\n"}) {
      Gather g(Merge::kByKey, version, 2, kNoLimit);
      g.set_elements(2);
      g.set_places(0, {0});
      g.set_places(1, {1});
      CHECK(gather(g, {{0, sent}, {1, "*1\r\n" + sent}}) == std::string("*2\r\n") + null + null);
    }
  }
}

TEST_CASE("a key of another type is nil to MGET, as Redis has it", "[gather]") {
  Gather g(Merge::kByKey, RespVersion::kResp2, 2, kNoLimit);
  g.set_elements(2);
  g.set_places(0, {0});
  g.set_places(1, {1});
  CHECK(gather(g, {{0, "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"}, {1, "$1\r\nx\r\n"}}) ==
        "*2\r\n$-1\r\n$1\r\nx\r\n");
}

TEST_CASE("a key of another type is an error to everything else", "[gather]") {
  Gather g(Merge::kSum, RespVersion::kResp2, 2, kNoLimit);
  CHECK(gather(g, {{0, ":1\r\n"}, {1, "-WRONGTYPE no\r\n"}}) == "-WRONGTYPE no\r\n");
}

TEST_CASE("logical and: an element is 1 where every part says so", "[gather]") {
  Gather g(Merge::kLogicalAnd, RespVersion::kResp2, 3, kNoLimit);
  CHECK(gather(g, {{0, "*4\r\n:1\r\n:1\r\n:0\r\n:1\r\n"},
                   {1, "*4\r\n:1\r\n:0\r\n:1\r\n:1\r\n"},
                   {2, "*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n"}}) == "*4\r\n:1\r\n:0\r\n:0\r\n:1\r\n");
}

TEST_CASE("arrays are joined, nested elements whole, empty ones too", "[gather]") {
  Gather g(Merge::kConcatenate, RespVersion::kResp2, 3, kNoLimit);
  CHECK(gather(g, {{0, "*2\r\n$1\r\na\r\n*1\r\n:1\r\n"}, {1, "*0\r\n"}, {2, "*1\r\n$-1\r\n"}}) ==
        "*3\r\n$1\r\na\r\n*1\r\n:1\r\n$-1\r\n");
  Gather none(Merge::kConcatenate, RespVersion::kResp2, 2, kNoLimit);
  CHECK(gather(none, {{0, "*0\r\n"}, {1, "*0\r\n"}}) == "*0\r\n");
  Gather sets(Merge::kConcatenate, RespVersion::kResp3, 2, kNoLimit);
  CHECK(gather(sets, {{0, "~1\r\n+a\r\n"}, {1, "~1\r\n+b\r\n"}}) == "~2\r\n+a\r\n+b\r\n");
}

TEST_CASE("a union has each element once", "[gather]") {
  Gather g(Merge::kUnion, RespVersion::kResp2, 3, kNoLimit);
  CHECK(gather(g, {{0, "*2\r\n$1\r\na\r\n$1\r\nb\r\n"}, {1, "*0\r\n"}, {2, "*2\r\n$1\r\nb\r\n$1\r\nc\r\n"}}) ==
        "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
}

TEST_CASE("numbers that follow names are added by place", "[gather]") {
  Gather g(Merge::kSumPairs, RespVersion::kResp2, 2, kNoLimit);
  CHECK(gather(g, {{1, "*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:0\r\n"}, {0, "*4\r\n$1\r\na\r\n:2\r\n$1\r\nb\r\n:5\r\n"}}) ==
        "*4\r\n$1\r\na\r\n:3\r\n$1\r\nb\r\n:5\r\n");
  Gather none(Merge::kSumPairs, RespVersion::kResp2, 2, kNoLimit);
  CHECK(gather(none, {{0, "*0\r\n"}, {1, "*0\r\n"}}) == "*0\r\n");
}

TEST_CASE("a random one is never that of an empty node while another has one", "[gather]") {
  std::set<std::string> seen;
  for (int i = 0; i < 200; ++i) {
    Gather g(Merge::kRandom, RespVersion::kResp2, 4, kNoLimit);
    seen.insert(gather(g, {{0, "$-1\r\n"}, {1, "$1\r\na\r\n"}, {2, "$-1\r\n"}, {3, "$1\r\nb\r\n"}}));
  }
  CHECK(seen == std::set<std::string>{"$1\r\na\r\n", "$1\r\nb\r\n"});
  Gather none(Merge::kRandom, RespVersion::kResp3, 2, kNoLimit);
  CHECK(gather(none, {{0, "_\r\n"}, {1, "_\r\n"}}) == "_\r\n");
}

TEST_CASE("of an array the first element is edited, the rest is as it was", "[gather]") {
  const auto append = [](std::string& text, const auto&) { text += "7"; };
  Gather g(RespVersion::kResp2, 1, kNoLimit, append);
  CHECK(gather(g, {{0, "*2\r\n$2\r\n12\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"}}) ==
        "*2\r\n$3\r\n127\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n");
  Gather empty(RespVersion::kResp2, 1, kNoLimit, append);
  CHECK(gather(empty, {{0, "*0\r\n"}}) == "*0\r\n");
}

TEST_CASE("an edited text gets its new length, in either spelling", "[gather]") {
  const auto append = [](std::string& text, const auto&) { text += "# more\r\n"; };
  Gather bulk(RespVersion::kResp2, 1, kNoLimit, append);
  CHECK(gather(bulk, {{0, "$3\r\na\r\n\r\n"}}) == "$11\r\na\r\n# more\r\n\r\n");
  Gather verbatim(RespVersion::kResp3, 1, kNoLimit, append);
  CHECK(gather(verbatim, {{0, "=7\r\ntxt:a\r\n\r\n"}}) == "=15\r\ntxt:a\r\n# more\r\n\r\n");
}

TEST_CASE("what is no text is not edited", "[gather]") {
  for (const std::string reply : {"-NOPERM no info for you\r\n", "$-1\r\n", "+OK\r\n"}) {
    Gather g(RespVersion::kResp2, 1, kNoLimit, [](std::string& text, const auto&) { text = "edited"; });
    CHECK(gather(g, {{0, reply}}) == reply);
  }
}

TEST_CASE("the first part's text is changed in knowledge of the others', whatever comes first", "[gather]") {
  Gather g(RespVersion::kResp3, 3, kNoLimit, [](std::string& text, const std::vector<std::string>& others) {
    std::multiset<std::string> known(others.begin(), others.end());
    text += known == std::multiset<std::string>{"b", "c"} ? " of three" : " of whom?";
  });
  CHECK(gather(g, {{2, "$1\r\nc\r\n"}, {0, "=5\r\ntxt:a\r\n"}, {1, "=5\r\ntxt:b\r\n"}}) == "=14\r\ntxt:a of three\r\n");
}

TEST_CASE("a reply that would be too large is an error, and nothing of it is held", "[gather]") {
  for (const Merge merge : {Merge::kConcatenate, Merge::kUnion, Merge::kByKey}) {
    Gather g(merge, RespVersion::kResp2, 3, 40);
    if (merge == Merge::kByKey) {
      g.set_elements(3);
      for (std::uint32_t part = 0; part < 3; ++part) g.set_places(part, {part});
    }
    const std::string part = "*1\r\n$10\r\n0123456789\r\n";
    REQUIRE_FALSE(g.add(0, part, true));
    REQUIRE(g.bytes() == part.size());
    REQUIRE_FALSE(g.add(1, part, false));
    CHECK(g.bytes() == 0);
    REQUIRE_FALSE(g.add(1, part, true));
    REQUIRE(g.add(2, part, true));
    CHECK(g.bytes() == 0);
    CHECK(g.reply() == "-ERR nearcached: the reply is larger than limits.output_bytes\r\n");
  }
}

TEST_CASE("an attribute in front of a part is not taken for its elements", "[gather]") {
  Gather g(Merge::kConcatenate, RespVersion::kResp3, 2, kNoLimit);
  CHECK(gather(g, {{0, "|1\r\n+ttl\r\n:3\r\n*2\r\n:1\r\n:2\r\n"}, {1, "~1\r\n:3\r\n"}}) == "~3\r\n:1\r\n:2\r\n:3\r\n");
}

}  // namespace nearcached::daemon
