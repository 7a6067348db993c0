// Fills and pushes: what may be kept, who may join, who is told what. Greeting and probes: fill_link_proof_test.cpp.
#include "tiers/coherence/fill_link.hpp"

#include <catch2/catch.hpp>

#include "tests/unit/tiers/coherence/fill_link_harness.hpp"

namespace nearcached::tiers::coherence {
namespace {

using namespace testing;
using Tokens = std::vector<std::uint64_t>;

// One fill of "k" answered with these two replies.
Filled fill_with(const std::string& value, const std::string& ttl) {
  Harness h;
  h.serve();
  REQUIRE(h.submit("k"));
  REQUIRE(h.feed(value + ttl));
  REQUIRE(h.filled.size() == 1);
  return h.filled.front();
}

}  // namespace

TEST_CASE("a fill is GET and PTTL in one go, and is answered when both replies are in", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.submit("k", 7));
  CHECK(h.commands() == std::vector<Command>{{"GET", "k"}, {"PTTL", "k"}});
  h.now += 400'000;
  REQUIRE(h.feed(bulk("v")));
  CHECK(h.filled.empty());
  REQUIRE(h.feed(":5000\r\n"));
  REQUIRE(h.filled.size() == 1);
  const Filled& fill = h.filled.front();
  CHECK(fill.key == "k");
  CHECK(fill.answered);
  CHECK(fill.cacheable);
  CHECK(fill.reply == "$1\r\nv\r\n");
  CHECK(fill.tokens == Tokens{7});
  CHECK(fill.sent_us == kStart);
  // From the sending, not from the reply: the upstream's clock of the key ran while the reply travelled.
  CHECK(fill.expires_at_us == kStart + 5'000'000);
  CHECK(fill.installable);
  CHECK(h.link.reads_in_flight() == 0);
}

TEST_CASE("a key without TTL has no expiry, one that expires now does", "[fill_link]") {
  CHECK(fill_with(bulk("v"), ":-1\r\n").expires_at_us == 0);
  CHECK(fill_with(bulk("v"), ":-1\r\n").cacheable);
  CHECK(fill_with(bulk("v"), ":0\r\n").expires_at_us == kStart);
  CHECK(fill_with(bulk("v"), ":1\r\n").expires_at_us == kStart + 1000);
}

TEST_CASE("the longest TTL that Redis can hold does not come out as the past", "[fill_link]") {
  for (const char* ttl : {":9223372036854775\r\n", ":9000000000000000000\r\n", ":9223372036854775807\r\n"}) {
    const Filled fill = fill_with(bulk("v"), ttl);
    CHECK(fill.answered);
    CHECK((fill.expires_at_us == 0 || fill.expires_at_us > kStart + 1'000'000'000'000));
  }
}

TEST_CASE("what is no live value is passed on and never kept", "[fill_link]") {
  struct Case {
    std::string value, ttl;
  };
  const Case cases[] = {
      {"_\r\n", ":-1\r\n"},  // absent, and created in between
      {"_\r\n", ":5000\r\n"},
      {"$-1\r\n", ":-1\r\n"},  // the same null as RESP2 spells it
      {bulk("v"), ":-2\r\n"},  // expired in between
      {bulk("v"), "-MOVED 5 h:1\r\n"},
      {bulk("v"), "-NOPERM no pttl for you\r\n"},
      {bulk("v"), "_\r\n"},
      {bulk("v"), bulk("5000")},
      {"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", ":-1\r\n"},
      {"!9\r\nWRONGTYPE\r\n", ":-1\r\n"},
      {"-NOPERM this user can't\r\n", ":-1\r\n"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.value, c.ttl);
    const Filled fill = fill_with(c.value, c.ttl);
    CHECK(fill.answered);
    CHECK_FALSE(fill.cacheable);
    CHECK(fill.reply == c.value);
    CHECK(fill.tokens == Tokens{1});
  }
}

TEST_CASE("a node that sends elsewhere or can't answer now leaves its readers to the ordinary way", "[fill_link]") {
  for (const char* error :
       {"-MOVED 100 10.0.0.2:6379\r\n", "-ASK 100 10.0.0.2:6379\r\n", "-TRYAGAIN Multiple keys request\r\n",
        "-CLUSTERDOWN The cluster is down\r\n", "-LOADING Redis is loading the dataset in memory\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n", "-NOAUTH Authentication required.\r\n"}) {
    CAPTURE(error);
    const Filled fill = fill_with(error, error);
    CHECK_FALSE(fill.answered);
    CHECK_FALSE(fill.cacheable);
    CHECK(fill.tokens == Tokens{1});
    CHECK_FALSE(fill_with(error, ":-1\r\n").answered);
  }
}

TEST_CASE("readers of one key join the flight under way and are answered together", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.submit("k", 1));
  h.commands();
  REQUIRE(h.submit("k", 2));
  REQUIRE(h.feed(bulk("v")));
  REQUIRE(h.submit("k", 3));  // half of its replies are in: still current
  CHECK(h.commands().empty());
  CHECK(h.link.joined() == 2);
  CHECK(h.link.reads_in_flight() == 1);
  REQUIRE(h.feed(":-1\r\n"));
  REQUIRE(h.filled.size() == 1);
  CHECK(h.filled[0].tokens == Tokens{1, 2, 3});
  REQUIRE(h.submit("k", 4));  // it has landed: a new one
  CHECK(h.commands().size() == 2);
}

TEST_CASE("a reader that comes after something happened to the key starts another flight", "[fill_link]") {
  using Event = void (*)(Harness&);
  const std::pair<const char*, Event> events[] = {
      {"push", [](Harness& h) { REQUIRE(h.feed(push_of("k"))); }},
      {"write begun", [](Harness& h) { h.fences.begin_write(Harness::hash("k")); }},
      {"write begun and ended",
       [](Harness& h) {
         h.fences.begin_write(Harness::hash("k"));
         h.fences.end_write(Harness::hash("k"));
       }},
      {"write of all", [](Harness& h) { h.fences.begin_write_all(); }},
      {"bump", [](Harness& h) { h.fences.bump(Harness::hash("k")); }},
      {"bump of all", [](Harness& h) { h.fences.bump_all(); }},
      {"flushed", [](Harness& h) { REQUIRE(h.feed(kPushAll)); }},
      {"generation", [](Harness& h) { h.links.purge(h.row); }},
      {"slot moved", [](Harness& h) { h.epochs.bump(kSlot); }},
  };
  for (const auto& [name, happen] : events) {
    CAPTURE(name);
    Harness h;
    h.serve();
    REQUIRE(h.submit("k", 1));
    happen(h);
    h.commands();
    REQUIRE(h.submit("k", 2));
    CHECK(h.commands() == std::vector<Command>{{"GET", "k"}, {"PTTL", "k"}});
    REQUIRE(h.feed(bulk("old") + ":-1\r\n" + bulk("new") + ":-1\r\n"));
    REQUIRE(h.filled.size() == 2);
    CHECK(h.filled[0].tokens == Tokens{1});
    CHECK(h.filled[0].answered);  // it asked before: the old value is an answer, and no more than that
    CHECK_FALSE(h.filled[0].installable);
    CHECK(h.filled[1].tokens == Tokens{2});
    CHECK(h.filled[1].reply == bulk("new"));
  }
}

TEST_CASE("a push of another key disturbs nobody", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.submit("k", 1));
  REQUIRE(h.feed(push_of("other")));
  REQUIRE(h.submit("k", 2));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  REQUIRE(h.filled.size() == 1);
  CHECK(h.filled[0].tokens == Tokens{1, 2});
  CHECK(h.filled[0].installable);
}

TEST_CASE("a flight that left during a write is joined by nobody and kept by nobody", "[fill_link]") {
  Harness h;
  h.serve();
  const std::uint64_t hash = Harness::hash("k");
  h.fences.begin_write(hash);
  REQUIRE(h.submit("k", 1));
  REQUIRE(h.submit("k", 2));  // nothing changed since, but a write is under way
  CHECK(h.commands().size() == 4);
  SECTION("the write is still under way when the reply comes") {
    REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
    CHECK(h.filled[0].answered);
    CHECK_FALSE(h.filled[0].cacheable);
  }
  SECTION("the write ends first") {
    h.fences.end_write(hash);
    REQUIRE(h.submit("k", 3));
    CHECK(h.commands().size() == 2);
    REQUIRE(h.feed(bulk("v") + ":-1\r\n" + bulk("v") + ":-1\r\n" + bulk("new") + ":-1\r\n"));
    REQUIRE(h.filled.size() == 3);
    CHECK_FALSE(h.filled[0].installable);
    CHECK_FALSE(h.filled[1].installable);
    CHECK(h.filled[2].installable);
  }
  SECTION("another write of the key begins and both end") {
    h.fences.begin_write(hash);
    h.fences.end_write(hash);
    h.fences.end_write(hash);
    REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
    CHECK_FALSE(h.filled[0].installable);
  }
}

TEST_CASE("a flight that left during a write takes no later reader of an older flight", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.submit("k", 1));
  h.fences.begin_write(Harness::hash("k"));
  REQUIRE(h.submit("k", 2));
  h.fences.end_write(Harness::hash("k"));
  REQUIRE(h.submit("k", 3));
  REQUIRE(h.feed(bulk("1") + ":-1\r\n" + bulk("2") + ":-1\r\n" + bulk("3") + ":-1\r\n"));
  REQUIRE(h.filled.size() == 3);
  CHECK(h.filled[2].tokens == Tokens{3});
  CHECK(h.filled[2].installable);
}

TEST_CASE("the end of an older flight leaves the newer one open to join", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.submit("k", 1));
  REQUIRE(h.feed(push_of("k")));
  REQUIRE(h.submit("k", 2));
  REQUIRE(h.feed(bulk("old") + ":-1\r\n"));
  h.commands();
  REQUIRE(h.submit("k", 3));
  CHECK(h.commands().empty());
  REQUIRE(h.feed(bulk("new") + ":-1\r\n"));
  CHECK(h.filled.back().tokens == Tokens{2, 3});
}

TEST_CASE("wherever a push falls in the replies of a fill, the value is told and not kept", "[fill_link]") {
  const std::string push = push_of("k");
  SECTION("before the value") {
    Harness h;
    h.serve();
    REQUIRE(h.submit("k"));
    REQUIRE(h.feed(push + bulk("v") + ":-1\r\n"));
    CHECK(h.log == std::vector<std::string>{"invalidated k", "fill k $1\r\nv\r\n not kept"});
  }
  SECTION("between the value and its TTL") {
    Harness h;
    h.serve();
    REQUIRE(h.submit("k"));
    REQUIRE(h.feed(bulk("v") + push + ":-1\r\n"));
    CHECK(h.log == std::vector<std::string>{"invalidated k", "fill k $1\r\nv\r\n not kept"});
  }
  SECTION("behind the TTL, in the same bytes") {
    Harness h;
    h.serve();
    REQUIRE(h.submit("k"));
    REQUIRE(h.feed(bulk("v") + ":-1\r\n" + push));
    // Kept, and told of right behind: whoever kept it drops it now.
    CHECK(h.log == std::vector<std::string>{"fill k $1\r\nv\r\n kept", "invalidated k"});
    CHECK_FALSE(h.installable());
  }
  SECTION("inside an aggregate that is answered before it") {
    Harness h;
    h.serve();
    h.now += kStaleness / 2;
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.submit("k"));
    REQUIRE(h.feed("%2\r\n+proto\r\n" + push + ":3\r\n+role\r\n+master\r\n" + bulk("v") + ":-1\r\n"));
    CHECK(h.log == std::vector<std::string>{"invalidated k", "fill k $1\r\nv\r\n not kept"});
    CHECK(h.verified_until() == h.now + kStaleness);
  }
  SECTION("inside an aggregate that is the value itself") {
    Harness h;
    h.serve();
    REQUIRE(h.submit("k"));
    REQUIRE(h.feed("*2\r\n+a\r\n" + push + "+b\r\n:-1\r\n"));
    REQUIRE(h.filled.size() == 1);
    CHECK(h.log.front() == "invalidated k");
    CHECK(h.filled[0].reply == "*2\r\n+a\r\n+b\r\n");
    CHECK_FALSE(h.filled[0].installable);
  }
  SECTION("with an attribute in front of it") {
    Harness h;
    h.serve();
    REQUIRE(h.submit("k"));
    REQUIRE(h.feed("|1\r\n+ttl\r\n:1\r\n" + push + bulk("v") + ":-1\r\n"));
    CHECK(h.log == std::vector<std::string>{"invalidated k", "fill k $1\r\nv\r\n not kept"});
  }
}

TEST_CASE("a push names several keys, all are told", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.feed(">2\r\n$10\r\ninvalidate\r\n*3\r\n$1\r\na\r\n$0\r\n\r\n$4\r\nb\r\nc\r\n"));
  CHECK(h.log == std::vector<std::string>{"invalidated a", "invalidated ", "invalidated b\r\nc"});
  CHECK(h.link.invalidations() == 3);
}

TEST_CASE("pushes that are no invalidations are passed over", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.submit("k"));
  REQUIRE(h.feed(">3\r\n+monitor\r\n+channel\r\n+k\r\n>1\r\n+invalidate\r\n>0\r\n>2\r\n+invalidate\r\n*0\r\n"));
  CHECK(h.log.empty());
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  CHECK(h.filled.back().installable);
}

TEST_CASE("a flush kills everything that was read before it, at once", "[fill_link]") {
  for (const char* null : {"_\r\n", "*-1\r\n", "$-1\r\n"}) {
    CAPTURE(null);
    Harness h;
    h.serve();
    REQUIRE(h.submit("kept"));
    REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
    REQUIRE(h.installable());
    const std::uint32_t before = h.links.generation(h.row);
    REQUIRE(h.submit("under way"));
    REQUIRE(h.feed(std::string(">2\r\n+invalidate\r\n") + null));
    CHECK(h.log.back() == "invalidated all");
    CHECK_FALSE(h.proves(before, h.now));
    CHECK_FALSE(h.installable());
    REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
    CHECK_FALSE(h.filled.back().installable);
    REQUIRE(h.submit("after"));  // the connection is as good as before
    REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
    CHECK(h.filled.back().installable);
    CHECK(h.filled.back().link_is_proof);
  }
}

TEST_CASE("where the bytes are cut changes nothing", "[fill_link]") {
  const std::string bytes = push_of("a") + bulk("va\r\n+") + ":700\r\n" + push_of("b") + "_\r\n" + kPushAll + ":-2\r\n" +
                            "%2\r\n+proto\r\n" + push_of("c") + ":3\r\n$4\r\nrole\r\n+master\r\n" + "-MOVED 1 h:2\r\n" +
                            "-MOVED 1 h:2\r\n" + bulk("vd") + push_of("d") + ":-1\r\n";
  const auto run = [&](const std::vector<std::size_t>& cuts) {
    Harness h;
    h.serve();
    h.now += kStaleness / 2;
    REQUIRE(h.submit("a"));
    REQUIRE(h.submit("b"));
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.submit("c"));
    REQUIRE(h.submit("d"));
    std::size_t from = 0;
    for (const std::size_t cut : cuts) {
      REQUIRE(h.feed(bytes.substr(from, cut - from)));
      from = cut;
    }
    REQUIRE(h.feed(bytes.substr(from)));
    REQUIRE(h.unconsumed() == 0);
    h.log.push_back(std::to_string(h.verified_until()));
    return h.log;
  };
  const std::vector<std::string> whole = run({});
  REQUIRE(whole.size() == 10);
  CHECK(whole.back() == std::to_string(kStart + kStaleness / 2 + kStaleness));
  for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
    CAPTURE(cut);
    REQUIRE(run({cut}) == whole);
  }
  std::vector<std::size_t> every;
  for (std::size_t cut = 1; cut < bytes.size(); ++cut) every.push_back(cut);
  CHECK(run(every) == whole);
}

TEST_CASE("a lost connection kills its entries first and answers every waiter once, second", "[fill_link]") {
  // Lost after each number of replies.
  const std::string replies[] = {bulk("v"), ":-1\r\n", bulk("w"), ":-1\r\n"};
  for (std::size_t given = 0; given < 4; ++given) {
    CAPTURE(given);
    Harness h;
    h.serve();
    const std::uint32_t before = h.links.generation(h.row);
    REQUIRE(h.submit("k", 1));
    REQUIRE(h.submit("k", 2));
    REQUIRE(h.submit("l", 3));
    for (std::size_t i = 0; i < given; ++i) REQUIRE(h.feed(replies[i]));
    const std::size_t landed = h.filled.size();
    h.lose();
    CHECK(h.links.generation(h.row) != before);
    CHECK_FALSE(h.proves(h.links.generation(h.row), h.now));
    CHECK(h.link.state() == FillLinkState::kClosed);
    REQUIRE(h.filled.size() == 2);
    for (std::size_t i = landed; i < 2; ++i) {
      CHECK_FALSE(h.filled[i].answered);
      CHECK_FALSE(h.filled[i].cacheable);
      CHECK_FALSE(h.filled[i].link_is_proof);
    }
    CHECK(h.filled[0].tokens == Tokens{1, 2});
    CHECK(h.filled[1].tokens == Tokens{3});
    CHECK(h.submit("k"));  // held, for the next connection
    CHECK(h.link.output().empty());
    CHECK(h.link.reads_in_flight() == 0);
  }
}

TEST_CASE("nothing of a lost connection is left in the next one", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.submit("k", 1));
  REQUIRE(h.feed("$10\r\nhalf a va"));
  h.lose();
  h.serve();
  REQUIRE(h.link.state() == FillLinkState::kServing);
  REQUIRE(h.submit("k", 2));
  CHECK(h.commands() == std::vector<Command>{{"GET", "k"}, {"PTTL", "k"}});
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  CHECK(h.filled.back().tokens == Tokens{2});
  CHECK(h.filled.back().installable);
}

TEST_CASE("a waiter that asks again from inside its answer is served or refused, not lost", "[fill_link]") {
  Harness h;
  h.serve();
  bool accepted = false;
  bool once = true;
  h.when_filled = [&](const Filled& fill) {
    if (std::exchange(once, false)) accepted = h.submit(fill.key, 9);
  };
  SECTION("at the reply") {
    REQUIRE(h.submit("k"));
    REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
    REQUIRE(accepted);
    REQUIRE(h.feed(bulk("w") + ":-1\r\n"));
    REQUIRE(h.filled.size() == 2);
    CHECK(h.filled[1].tokens == Tokens{9});
    CHECK(h.filled[1].reply == bulk("w"));
  }
  SECTION("at the loss") {
    REQUIRE(h.submit("k"));
    h.lose();
    CHECK(accepted);
    CHECK(h.filled.size() == 1);
    h.serve();
    REQUIRE(h.feed(bulk("w") + ":-1\r\n"));
    REQUIRE(h.filled.size() == 2);
    CHECK(h.filled[1].tokens == Tokens{9});
    CHECK(h.filled[1].answered);
  }
}

TEST_CASE("two keys with one hash are two flights", "[fill_link]") {
  Harness h;
  h.serve();
  std::uint64_t token = 0;
  for (const std::string key : {"k", "l", "k"}) {
    std::string command;
    protocol::append_command(command, {"GET", key});
    REQUIRE(h.link.submit({key, 42, kSlot, command, {}}, {nullptr, ++token, 0}, h.now));
  }
  REQUIRE(h.feed(bulk("of k") + ":-1\r\n" + bulk("of l") + ":-1\r\n" + bulk("of k") + ":-1\r\n"));
  for (const Filled& fill : h.filled) CHECK(fill.reply == bulk("of " + fill.key));
  std::size_t told = 0;
  for (const Filled& fill : h.filled) told += fill.tokens.size();
  CHECK(told == 3);
}

TEST_CASE("a stream that is not RESP, or answers what nobody asked, is given up", "[fill_link]") {
  for (const char* bytes : {"hello\r\n", "+PONG\r\n", ":1\r\n", "$-7\r\n"}) {
    CAPTURE(bytes);
    Harness h;
    h.serve();
    CHECK_FALSE(h.feed(bytes));
  }
}

}  // namespace nearcached::tiers::coherence
