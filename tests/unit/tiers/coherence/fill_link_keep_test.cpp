// Which replies may be kept and for how long: reads of one key side by side, absent keys, hash fields that expire.
#include <catch2/catch.hpp>

#include "tests/unit/tiers/coherence/fill_link_harness.hpp"
#include "tiers/coherence/fill_link.hpp"

namespace nearcached::tiers::coherence {
namespace {

using namespace testing;
using protocol::Caching;
using Tokens = std::vector<std::uint64_t>;

// One read of "k" on one server, answered with these replies.
Filled read_with(const Command& words, const std::string& value, const std::string& ttl) {
  Harness h;
  h.serve();
  REQUIRE(h.submit_read(words));
  REQUIRE(h.feed(value + ttl));
  REQUIRE(h.filled.size() == 1);
  CHECK(h.filled[0].answered);
  CHECK(h.filled[0].reply == value);
  return h.filled[0];
}

std::string view_of(const std::string& slots) { return kHelloMaster + cluster_info("ok") + cluster_nodes("master", slots); }

// Serving on a server that answers COMMAND INFO HPTTL like this.
struct Hash {
  explicit Hash(const std::string& field_expiry) {
    h.link.connected(h.now);
    REQUIRE(h.feed(kHelloMaster + field_expiry + kOk + kHelloMaster));
    REQUIRE(h.link.state() == FillLinkState::kServing);
    h.commands();
  }
  Filled read(const Command& words, Caching caching, const std::string& replies) {
    REQUIRE(h.submit_read(words, 1, caching));
    sent = h.commands();
    REQUIRE(h.feed(replies));
    REQUIRE(h.filled.size() == 1);
    return h.filled[0];
  }
  Harness h;
  std::vector<Command> sent;
};

const Command kHmget{"HMGET", "k", "f", "g"};

}  // namespace

TEST_CASE("reads of one key that differ are flights of their own, equal ones share theirs", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.submit("k", 1));
  REQUIRE(h.submit_read({"STRLEN", "k"}, 2));
  REQUIRE(h.submit_read({"GETRANGE", "k", "0", "1"}, 3));
  REQUIRE(h.submit_read({"GETRANGE", "k", "0", "2"}, 4));
  CHECK(h.commands().size() == 8);
  REQUIRE(h.submit("k", 5));
  REQUIRE(h.submit_read({"STRLEN", "k"}, 6));
  REQUIRE(h.submit_read({"GETRANGE", "k", "0", "2"}, 7));
  CHECK(h.commands().empty());
  REQUIRE(h.feed(bulk("abc") + ":-1\r\n" + ":3\r\n:-1\r\n" + bulk("ab") + ":-1\r\n" + bulk("abc") + ":-1\r\n"));
  REQUIRE(h.filled.size() == 4);
  CHECK(h.filled[0].tokens == Tokens{1, 5});
  CHECK(h.filled[1].tokens == Tokens{2, 6});
  CHECK(h.filled[2].tokens == Tokens{3});
  CHECK(h.filled[3].tokens == Tokens{4, 7});
  for (const Filled& fill : h.filled) CHECK(fill.installable);
}

TEST_CASE("an invalidation of a key concerns all reads of it", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.submit("k", 1));
  REQUIRE(h.submit_read({"STRLEN", "k"}, 2));
  REQUIRE(h.feed(push_of("k")));
  REQUIRE(h.submit_read({"STRLEN", "k"}, 3));
  REQUIRE(h.feed(bulk("a") + ":-1\r\n" + ":1\r\n:-1\r\n" + ":2\r\n:-1\r\n"));
  REQUIRE(h.filled.size() == 3);
  CHECK_FALSE(h.filled[0].installable);
  CHECK_FALSE(h.filled[1].installable);
  CHECK(h.filled[2].installable);
  CHECK(h.filled[2].tokens == Tokens{3});
}

TEST_CASE("a variant whose hash collides with another read's is not answered with its reply", "[fill_link]") {
  Harness h;
  h.serve();
  const std::string variant = "strlen ";
  const std::uint64_t variant_hash = std::hash<std::string_view>()(variant);
  // GET of a key whose hash is that of STRLEN k's flight.
  std::string get;
  protocol::append_command(get, {"GET", "l"});
  std::string strlen;
  protocol::append_command(strlen, {"STRLEN", "k"});
  REQUIRE(h.link.submit({"k", 42, kSlot, strlen, variant}, {nullptr, 1, 0}, h.now));
  REQUIRE(h.link.submit({"l", 42 ^ variant_hash, kSlot, get, {}}, {nullptr, 2, 0}, h.now));
  REQUIRE(h.feed(":3\r\n:-1\r\n" + bulk("l") + ":-1\r\n"));
  REQUIRE(h.filled.size() == 2);
  CHECK(h.filled[0].tokens == Tokens{1});
  CHECK(h.filled[1].tokens == Tokens{2});
}

TEST_CASE("an absent key is kept as such, by every read that says so", "[fill_link]") {
  const std::string absent = ":-2\r\n";
  CHECK(read_with({"GET", "k"}, "_\r\n", absent).installable);
  for (const std::string value :
       {"_\r\n", ":0\r\n", ":-2\r\n", "+none\r\n", "*0\r\n", "%0\r\n", "~0\r\n", "*2\r\n_\r\n_\r\n", "*2\r\n:0\r\n:0\r\n"}) {
    CAPTURE(value);
    const Filled fill = read_with({"READ", "k"}, value, absent);
    CHECK(fill.installable);
    CHECK(fill.expires_at_us == 0);
  }
}

TEST_CASE("a value whose key was gone by its PTTL is told and not kept", "[fill_link]") {
  for (const std::string value :
       {"$1\r\nv\r\n", "$0\r\n\r\n", ":1\r\n", ":-1\r\n", "+string\r\n", ",0\r\n", "#f\r\n", "*1\r\n$1\r\nv\r\n",
        "*2\r\n_\r\n$1\r\nv\r\n", "*2\r\n:0\r\n:1\r\n", "%1\r\n+f\r\n+v\r\n", "~1\r\n+m\r\n", "*1\r\n*0\r\n"}) {
    CAPTURE(value);
    CHECK_FALSE(read_with({"READ", "k"}, value, ":-2\r\n").cacheable);
    CHECK(read_with({"READ", "k"}, value, ":-1\r\n").cacheable);
  }
}

TEST_CASE("a zero that is a place is no sign of an absent key", "[fill_link]") {
  for (const char* name : {"zrank", "zrevrank", "lpos", "bitpos"}) {
    CAPTURE(name);
    CHECK_FALSE(read_with({name, "k", "m"}, ":0\r\n", ":-2\r\n").cacheable);
    CHECK_FALSE(read_with({name, "k", "m"}, "*1\r\n:0\r\n", ":-2\r\n").cacheable);
    CHECK(read_with({name, "k", "m"}, "_\r\n", ":-2\r\n").cacheable);
    CHECK(read_with({name, "k", "m"}, "*0\r\n", ":-2\r\n").cacheable);
    CHECK(read_with({name, "k", "m"}, ":0\r\n", ":-1\r\n").cacheable);
  }
}

TEST_CASE("GET of a key that was created before its PTTL is not kept, an absent part of a key is", "[fill_link]") {
  CHECK_FALSE(read_with({"GET", "k"}, "$-1\r\n", ":-2\r\n").cacheable);
  CHECK_FALSE(read_with({"HMGET", "k", "f"}, "*-1\r\n", ":-2\r\n").cacheable);
  CHECK(read_with({"HGET", "k", "f"}, "_\r\n", ":-1\r\n").cacheable);
  CHECK(read_with({"HGET", "k", "f"}, "_\r\n", ":70\r\n").expires_at_us == kStart + 70'000);
  Harness h;
  h.serve();
  REQUIRE(h.submit("k"));
  REQUIRE(h.feed("_\r\n:-1\r\n"));
  CHECK_FALSE(h.filled[0].cacheable);
}

TEST_CASE("in a cluster an absent key is kept only while the owner shows its slot closed", "[fill_link]") {
  const struct {
    const char* slots;
    bool kept;
  } cases[] = {
      {"0-16383", true},
      {"0-16383 [100->-4f2a]", false},  // leaving: it may be created there, and nobody here hears of it
      {"0-16383 [100-<-4f2a]", false},  // coming
      {"0-16383 [101->-4f2a]", true},   // another one
      {"0-16383 [99->-4f2a] [100->-4f2a]", false},
  };
  for (const auto& c : cases) {
    CAPTURE(c.slots);
    Harness h(Harness::in_cluster());
    h.link.connected(h.now);
    REQUIRE(h.feed(kGreeted + view_of(c.slots)));
    REQUIRE(h.submit("k"));
    REQUIRE(h.submit("l"));
    REQUIRE(h.feed("_\r\n:-2\r\n" + bulk("v") + ":-1\r\n"));
    REQUIRE(h.filled.size() == 2);
    CHECK(h.filled[0].answered);
    CHECK(h.filled[0].installable == c.kept);
    CHECK(h.filled[1].installable);  // a value is here, and its change is signalled
  }
}

TEST_CASE("a slot that opens kills what was read before, absent keys among it, one that closes does not", "[fill_link]") {
  Harness h(Harness::in_cluster());
  h.serve(Harness::in_cluster());
  REQUIRE(h.submit("k"));
  REQUIRE(h.feed("_\r\n:-2\r\n"));
  REQUIRE(h.installable());
  const auto probe_with = [&](const std::string& slots) {
    h.now += kStaleness / 3;
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.feed(view_of(slots)));
  };
  SECTION("installed before") {
    probe_with("0-16383 [100->-4f2a]");
    CHECK_FALSE(h.installable());
    CHECK(h.epochs.of(99) == 0);
    CHECK(h.epochs.of(101) == 0);
    const std::uint32_t opened = h.epochs.of(100);
    probe_with("0-16383 [100->-4f2a]");  // still open: no news
    CHECK(h.epochs.of(100) == opened);
    probe_with("0-16383");
    CHECK(h.epochs.of(100) == opened);
    probe_with("0-16383 [100-<-4f2a]");
    CHECK(h.epochs.of(100) != opened);
  }
  SECTION("asked before, answered behind the view") {
    h.now += kStaleness / 3;
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.submit("l"));
    REQUIRE(h.feed(view_of("0-16383 [100->-4f2a]") + "_\r\n:-2\r\n"));
    CHECK_FALSE(h.filled.back().cacheable);
    REQUIRE(h.submit("m"));
    h.now += kStaleness / 3;
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.feed("_\r\n:-2\r\n" + view_of("0-16383") + ""));
    CHECK_FALSE(h.filled.back().cacheable);
  }
  SECTION("asked before, answered behind the views that opened and closed it") {
    h.now += kStaleness / 3;
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.submit("l"));
    REQUIRE(h.feed(view_of("0-16383 [100->-4f2a]") + "_\r\n"));
    CHECK(h.filled.size() == 1);
    REQUIRE(h.feed(":-2\r\n"));
    CHECK_FALSE(h.installable());
  }
}

TEST_CASE("hash fields are read with their expiry where the server has that", "[fill_link]") {
  SECTION("it is paired with the fields that were named") {
    Hash hash(kFieldExpiry);
    const Filled fill = hash.read(kHmget, Caching::kFields, "*2\r\n+a\r\n+b\r\n:-1\r\n*2\r\n:-1\r\n:-1\r\n");
    CHECK(hash.sent == std::vector<Command>{kHmget, {"PTTL", "k"}, {"HPTTL", "k", "FIELDS", "2", "f", "g"}});
    CHECK(fill.installable);
    CHECK_FALSE(fill.unwatched);
    CHECK(fill.expires_at_us == 0);
    CHECK(hash.h.link.reads_in_flight() == 0);
  }
  SECTION("it is not answered before that is in") {
    Hash hash(kFieldExpiry);
    REQUIRE(hash.h.submit_read({"HGET", "k", "f"}, 1, Caching::kFields));
    REQUIRE(hash.h.feed(bulk("v") + ":-1\r\n"));
    CHECK(hash.h.filled.empty());
    CHECK(hash.h.link.reads_in_flight() == 1);
    REQUIRE(hash.h.submit_read({"HGET", "k", "f"}, 2, Caching::kFields));
    REQUIRE(hash.h.feed("*1\r\n:-1\r\n"));
    REQUIRE(hash.h.filled.size() == 1);
    CHECK(hash.h.filled[0].tokens == Tokens{1, 2});
  }
  SECTION("a loss between its replies answers it once") {
    Hash hash(kFieldExpiry);
    REQUIRE(hash.h.submit_read({"HGET", "k", "f"}, 1, Caching::kFields));
    REQUIRE(hash.h.feed(bulk("v") + ":-1\r\n"));
    hash.h.lose();
    REQUIRE(hash.h.filled.size() == 1);
    CHECK_FALSE(hash.h.filled[0].answered);
  }
  SECTION("a server without it is not asked") {
    Hash hash(kNoFieldExpiry);
    const Filled fill = hash.read(kHmget, Caching::kFields, "*2\r\n+a\r\n+b\r\n:-1\r\n");
    CHECK(hash.sent == std::vector<Command>{kHmget, {"PTTL", "k"}});
    CHECK_FALSE(fill.unwatched);
  }
  SECTION("other reads are not paired") {
    Hash hash(kFieldExpiry);
    const Filled fill = hash.read({"STRLEN", "k"}, Caching::kKey, ":3\r\n:-1\r\n");
    CHECK(hash.sent.size() == 2);
    CHECK_FALSE(fill.unwatched);
  }
}

TEST_CASE("the least of the key's and its fields' expiry bounds a hash read", "[fill_link]") {
  const struct {
    const char *value, *ttl, *fields;
    std::int64_t expires_us;
  } cases[] = {
      {"+a\r\n+b\r\n", ":-1\r\n", "*2\r\n:700\r\n:300\r\n", kStart + 300'000},
      {"_\r\n+b\r\n", ":-1\r\n", "*2\r\n:-2\r\n:300\r\n", kStart + 300'000},
      {"+a\r\n+b\r\n", ":100\r\n", "*2\r\n:700\r\n:300\r\n", kStart + 100'000},
      {"+a\r\n+b\r\n", ":500\r\n", "*2\r\n:-1\r\n:300\r\n", kStart + 300'000},
      {"_\r\n+b\r\n", ":500\r\n", "*2\r\n:-2\r\n:-1\r\n", kStart + 500'000},
      {"+a\r\n+b\r\n", ":500\r\n", "*2\r\n:0\r\n:300\r\n", kStart},
      {"_\r\n_\r\n", ":-1\r\n", "*2\r\n:-2\r\n:-2\r\n", 0},
      {"_\r\n_\r\n", ":-1\r\n", "_\r\n", 0},
  };
  for (const auto& c : cases) {
    CAPTURE(c.value, c.ttl, c.fields);
    Hash hash(kFieldExpiry);
    const Filled fill = hash.read(kHmget, Caching::kFields, std::string("*2\r\n") + c.value + c.ttl + c.fields);
    CHECK(fill.installable);
    CHECK_FALSE(fill.unwatched);
    CHECK(fill.expires_at_us == c.expires_us);
  }
}

TEST_CASE("a field's expiry does not revive a key that was gone by its PTTL, nor one whose PTTL is not known",
          "[fill_link]") {
  for (const char* ttl : {":-2\r\n", "-NOPERM no pttl\r\n"}) {
    CAPTURE(ttl);
    Hash hash(kFieldExpiry);
    CHECK_FALSE(
        hash.read(kHmget, Caching::kFields, "*2\r\n+a\r\n+b\r\n" + std::string(ttl) + "*2\r\n:50\r\n:50\r\n").cacheable);
  }
  Hash hash(kFieldExpiry);
  CHECK(hash.read(kHmget, Caching::kFields, "*2\r\n_\r\n_\r\n:-2\r\n*2\r\n:-2\r\n:-2\r\n").installable);
}

TEST_CASE("a field that was told and that HPTTL calls gone has no deadline: it is not kept", "[fill_link]") {
  for (const std::string fields : {"*2\r\n:-1\r\n:-2\r\n", "*2\r\n:-2\r\n:500\r\n", "*2\r\n:-2\r\n:-2\r\n", "_\r\n"}) {
    CAPTURE(fields);
    Hash hash(kFieldExpiry);
    CHECK_FALSE(hash.read(kHmget, Caching::kFields, "*2\r\n+a\r\n+b\r\n:-1\r\n" + fields).cacheable);
  }
  Hash one(kFieldExpiry);
  CHECK_FALSE(one.read({"HGET", "k", "f"}, Caching::kFields, bulk("v") + ":-1\r\n*1\r\n:-2\r\n").cacheable);
  Hash absent(kFieldExpiry);
  CHECK(absent.read({"HGET", "k", "f"}, Caching::kFields, "_\r\n:-1\r\n*1\r\n:-2\r\n").installable);
  Hash partly(kFieldExpiry);
  CHECK(partly.read(kHmget, Caching::kFields, "*2\r\n+a\r\n_\r\n:-1\r\n*2\r\n:-1\r\n:-2\r\n").installable);
}

TEST_CASE("what a hash read says of an absent key needs no watching of fields", "[fill_link]") {
  Hash hash(kFieldExpiry);
  const Filled fill = hash.read({"HGETALL", "k"}, Caching::kWholeHash, "%0\r\n:-2\r\n");
  CHECK(fill.installable);
  CHECK_FALSE(fill.unwatched);
}

TEST_CASE("a hash read whose fields' expiry is not understood is watched by nobody", "[fill_link]") {
  for (const std::string fields :
       {"-ERR unknown command\r\n", "-NOPERM no hpttl\r\n", "+OK\r\n", ":5\r\n", "%1\r\n+f\r\n:5\r\n", "*2\r\n:-1\r\n_\r\n",
        "*2\r\n+a\r\n+b\r\n", "*2\r\n:-1\r\n*1\r\n:5\r\n"}) {
    CAPTURE(fields);
    Hash hash(kFieldExpiry);
    const Filled fill = hash.read(kHmget, Caching::kFields, "*2\r\n+a\r\n+b\r\n:-1\r\n" + fields);
    CHECK(fill.answered);
    CHECK(fill.unwatched);
  }
}

TEST_CASE("reads of a whole hash, and all where it is not known whether fields expire, are watched by nobody",
          "[fill_link]") {
  const Command all{"HGETALL", "k"};
  const std::string reply = "%1\r\n+f\r\n+v\r\n:-1\r\n";
  {
    Hash hash(kFieldExpiry);
    CHECK(hash.read(all, Caching::kWholeHash, reply).unwatched);
    CHECK(hash.sent.size() == 2);
  }
  {
    Hash hash(kNoFieldExpiry);
    CHECK_FALSE(hash.read(all, Caching::kWholeHash, reply).unwatched);
  }
  for (const std::string unknown : {"-NOPERM no command\r\n", "*0\r\n", "*2\r\n_\r\n_\r\n", "+OK\r\n", "_\r\n"}) {
    CAPTURE(unknown);
    Hash whole(unknown);
    CHECK(whole.read(all, Caching::kWholeHash, reply).unwatched);
    Hash fields(unknown);
    CHECK(fields.read(kHmget, Caching::kFields, "*2\r\n+a\r\n+b\r\n:-1\r\n").unwatched);
    CHECK(fields.sent.size() == 2);
  }
}

TEST_CASE("whether fields expire is asked of every server anew", "[fill_link]") {
  Hash hash(kFieldExpiry);
  hash.h.lose();
  hash.h.link.connected(hash.h.now);
  REQUIRE(hash.h.feed(kHelloMaster + "-ERR who knows\r\n" + kOk + kHelloMaster));
  hash.h.commands();
  CHECK(hash.read({"HGET", "k", "f"}, Caching::kFields, bulk("v") + ":-1\r\n").unwatched);
  CHECK(hash.sent.size() == 2);
}

TEST_CASE("a push inside the reply of another key's read is heard and not part of it", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.submit_read({"HGETALL", "k"}));
  REQUIRE(h.submit("other"));
  REQUIRE(
      h.feed("%2\r\n+a\r\n" + push_of("other") + "+1\r\n+b\r\n" + push_of("x") + "+2\r\n:-1\r\n" + bulk("v") + ":-1\r\n"));
  REQUIRE(h.filled.size() == 2);
  CHECK(h.filled[0].reply == "%2\r\n+a\r\n+1\r\n+b\r\n+2\r\n");
  CHECK(h.filled[0].installable);
  CHECK_FALSE(h.filled[1].installable);
  CHECK(h.log.front() == "invalidated other");
  CHECK(h.link.invalidations() == 2);
}

}  // namespace nearcached::tiers::coherence
