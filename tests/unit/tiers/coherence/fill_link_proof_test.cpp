// Greeting, probes, slots, timeouts: when a fill link is proof of anything.
#include <catch2/catch.hpp>

#include "tests/unit/tiers/coherence/fill_link_harness.hpp"
#include "tiers/coherence/fill_link.hpp"

namespace nearcached::tiers::coherence {
namespace {

using namespace testing;

FillLinkOptions watching_swaps() {
  FillLinkOptions options = Harness::with_defaults();
  options.swapdb_never = false;
  return options;
}

bool proven(const Harness& h, std::int64_t at) { return h.proves(h.links.generation(h.row), at); }

// Ticks up to the sending of the next probe, forgets the commands.
void next_probe(Harness& h) {
  h.now += kStaleness / 2;
  REQUIRE(h.link.tick(h.now));
  REQUIRE_FALSE(h.commands().empty());
}

}  // namespace

TEST_CASE("the greeting asks for RESP3, then tracking in default mode, then for the first proof", "[fill_link]") {
  SECTION("one server") {
    Harness h;
    h.link.connected(h.now);
    CHECK(h.commands() == std::vector<Command>{{"HELLO", "3"}, {"COMMAND", "INFO", "HPTTL"}, {"CLIENT", "TRACKING", "ON"}});
    REQUIRE(h.feed(kHelloMaster + kNoFieldExpiry));
    CHECK(h.commands().empty());
    REQUIRE(h.feed(kOk));
    CHECK(h.commands() == std::vector<Command>{{"HELLO"}});
  }
  SECTION("a cluster's node, with a user") {
    FillLinkOptions options = Harness::in_cluster();
    options.credentials = {"app", "s3cret"};
    Harness h(options);
    h.link.connected(h.now);
    CHECK(h.commands() == std::vector<Command>{{"HELLO", "3", "AUTH", "app", "s3cret"},
                                               {"COMMAND", "INFO", "HPTTL"},
                                               {"CLIENT", "TRACKING", "ON"}});
    REQUIRE(h.feed(kGreeted));
    CHECK(h.commands() == std::vector<Command>{{"HELLO"}, {"CLUSTER", "INFO"}, {"CLUSTER", "NODES"}});
  }
  SECTION("a password alone is the default user's; a database is selected before tracking") {
    FillLinkOptions options = watching_swaps();
    options.credentials = {"", "s3cret"};
    options.database = 3;
    Harness h(options);
    h.link.connected(h.now);
    CHECK(h.commands() == std::vector<Command>{{"HELLO", "3", "AUTH", "default", "s3cret"},
                                               {"SELECT", "3"},
                                               {"COMMAND", "INFO", "HPTTL"},
                                               {"CLIENT", "TRACKING", "ON"}});
    REQUIRE(h.feed(kHelloMaster + kOk + kNoFieldExpiry + kOk));
    CHECK(h.commands() == std::vector<Command>{{"HELLO"}, {"INFO", "commandstats"}});
  }
}

TEST_CASE("nothing is filled and nothing is proven before the whole greeting is good", "[fill_link]") {
  Harness h(Harness::in_cluster());
  REQUIRE(h.submit("k"));
  h.link.connected(h.now);
  const std::string replies[] = {kHelloMaster, kNoFieldExpiry, kOk, kHelloMaster, cluster_info("ok")};
  for (const std::string& reply : replies) {
    CHECK(h.link.reads_in_flight() == 0);
    REQUIRE(h.feed(reply));
    CHECK(h.link.state() == FillLinkState::kGreeting);
    CHECK_FALSE(proven(h, h.now));
  }
  h.commands();
  REQUIRE(h.feed(cluster_nodes("master", "0-16383")));
  CHECK(h.link.state() == FillLinkState::kServing);
  CHECK(proven(h, h.now));
  CHECK(h.commands() == std::vector<Command>{{"GET", "k"}, {"PTTL", "k"}});
}

TEST_CASE("an upstream that can't or won't track is refused in its own words", "[fill_link]") {
  struct Case {
    std::string replies, word;
  };
  const Case cases[] = {
      {"-ERR unknown command 'HELLO'\r\n", "unknown command"},
      {"-NOPROTO unsupported protocol version\r\n", "NOPROTO"},
      {"-WRONGPASS invalid username-password pair\r\n", "WRONGPASS"},
      {"-NOAUTH HELLO must be called with the client already authenticated\r\n", "NOAUTH"},
      {"!11\r\nERR refused\r\n", "ERR refused"},
      {"%2\r\n+proto\r\n:2\r\n+role\r\n+master\r\n", "RESP3"},
      {"*4\r\n+proto\r\n:2\r\n+role\r\n+master\r\n", "RESP3"},
      {"+OK\r\n", "RESP3"},
      {kHelloMaster + kNoFieldExpiry + "-NOPERM this user has no permissions to run the 'client|tracking' command\r\n",
       "NOPERM"},
      {kHelloMaster + kNoFieldExpiry + "-ERR Unknown subcommand\r\n", "Unknown subcommand"},
      {kGreeted + "-NOPERM no hello\r\n", "NOPERM"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.replies);
    Harness h;
    h.link.connected(h.now);
    CHECK_FALSE(h.feed(c.replies));
    CHECK(h.link.state() == FillLinkState::kRefused);
    CHECK(h.link.state_reason().find(c.word) != std::string::npos);
    CHECK_FALSE(h.submit("k"));
    CHECK_FALSE(proven(h, h.now));
    h.lose();
    CHECK(h.link.state() == FillLinkState::kRefused);  // the reason stays visible until the next attempt
    h.link.connected(h.now);
    CHECK(h.link.state() == FillLinkState::kGreeting);
  }
}

TEST_CASE("a database that can't be selected is refused", "[fill_link]") {
  FillLinkOptions options = Harness::with_defaults();
  options.database = 99;
  Harness h(options);
  h.link.connected(h.now);
  CHECK_FALSE(h.feed(kHelloMaster + "-ERR DB index is out of range\r\n"));
  CHECK(h.link.state() == FillLinkState::kRefused);
}

TEST_CASE("a node that can't prove itself at first serves nothing, and is asked again", "[fill_link]") {
  const std::string bad_probes[] = {
      kHelloReplica + cluster_info("ok") + cluster_nodes("master", "0-16383"),
      kHelloMaster + cluster_info("fail") + cluster_nodes("master", "0-16383"),
      kHelloMaster + cluster_info("ok") + cluster_nodes("slave", ""),
      kHelloMaster + "-ERR not now\r\n" + cluster_nodes("master", "0-16383"),
  };
  for (const std::string& bad : bad_probes) {
    CAPTURE(bad);
    Harness h(Harness::in_cluster());
    h.link.connected(h.now);
    REQUIRE(h.feed(kGreeted + bad));
    CHECK(h.link.state() == FillLinkState::kGreeting);
    CHECK_FALSE(proven(h, h.now));
    h.commands();
    h.now += kStaleness;
    REQUIRE(h.link.tick(h.now));
    CHECK(h.commands() == std::vector<Command>{{"HELLO"}, {"CLUSTER", "INFO"}, {"CLUSTER", "NODES"}});
    REQUIRE(h.feed(Harness::good_probe(Harness::in_cluster())));
    CHECK(h.link.state() == FillLinkState::kServing);
    CHECK(proven(h, h.now));
  }
}

TEST_CASE("verified is the sending of a good probe plus the staleness, not a moment longer", "[fill_link]") {
  Harness h(Harness::in_cluster());
  h.serve(Harness::in_cluster());
  CHECK(proven(h, kStart + kStaleness - 1));
  CHECK_FALSE(proven(h, kStart + kStaleness));
  h.now = kStart + kStaleness / 2;
  REQUIRE(h.link.tick(h.now));
  const std::int64_t sent = h.now;
  h.now += 300'000;  // the answer takes its time: it proves the moment of the question
  REQUIRE(h.feed(kHelloMaster + cluster_info("ok")));
  CHECK(h.verified_until() == kStart + kStaleness);
  REQUIRE(h.feed(cluster_nodes("master", "0-16383")));
  CHECK(h.verified_until() == sent + kStaleness);
}

TEST_CASE("replies of fills renew nothing", "[fill_link]") {
  Harness h;
  h.serve();
  h.now += kStaleness - 1;
  REQUIRE(h.submit("k"));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  CHECK(h.verified_until() == kStart + kStaleness);
}

TEST_CASE("a probe is due every third of the staleness, one at a time", "[fill_link]") {
  Harness h;
  h.serve();
  REQUIRE(h.link.tick(kStart + kStaleness / 3 - 1));
  CHECK(h.link.output().empty());
  REQUIRE(h.link.tick(kStart + kStaleness / 3));
  CHECK(h.commands() == std::vector<Command>{{"HELLO"}});
  REQUIRE(h.link.tick(kStart + kStaleness));
  CHECK(h.link.output().empty());
  REQUIRE(h.feed(kHelloMaster));
  REQUIRE(h.link.tick(kStart + kStaleness));
  CHECK(h.commands() == std::vector<Command>{{"HELLO"}});
}

TEST_CASE("only the answers of the right node in a healthy cluster renew", "[fill_link]") {
  const std::string ok = cluster_info("ok");
  const std::string nodes = cluster_nodes("master", "0-16383");
  const std::string bad_probes[] = {
      kHelloReplica + ok + nodes,
      "%1\r\n+proto\r\n:3\r\n" + ok + nodes,
      "-LOADING Redis is loading\r\n" + ok + nodes,
      kOk + ok + nodes,
      "_\r\n" + ok + nodes,
      "*2\r\n+master\r\n+role\r\n" + ok + nodes,  // a value is no name
      kHelloMaster + cluster_info("fail") + nodes,
      kHelloMaster + bulk("") + nodes,
      kHelloMaster + "-CLUSTERDOWN The cluster is down\r\n" + nodes,
      kHelloMaster + "-MOVED 1 h:2\r\n" + nodes,
      kHelloMaster + "_\r\n" + nodes,
      kHelloMaster + ok + cluster_nodes("slave", ""),
      kHelloMaster + ok + bulk(""),
      kHelloMaster + ok + "-LOADING Redis is loading\r\n",
      kHelloMaster + ok + bulk("07c3 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-16383"),  // cut off
      kHelloMaster + ok + bulk("07c3 127.0.0.1:7000@17000 master - 0 0 1 connected 0-16383\n"),       // not itself
  };
  for (const std::string& bad : bad_probes) {
    CAPTURE(bad);
    Harness h(Harness::in_cluster());
    h.serve(Harness::in_cluster());
    next_probe(h);
    REQUIRE(h.feed(bad));
    CHECK(h.verified_until() == kStart + kStaleness);
    // What it answers now proves nothing, and who knows whose value it is: reads wait, or go where the slot is.
    h.submit("k");
    CHECK(h.link.output().empty());
    h.now += 100'000;
    REQUIRE(h.link.tick(h.now + kStaleness / 3));
    h.commands();
    const std::int64_t sent = h.now + kStaleness / 3;
    REQUIRE(h.feed(Harness::good_probe(Harness::in_cluster())));
    CHECK(h.verified_until() == sent + kStaleness);
  }
}

TEST_CASE("a good last reply does not make up for a bad first one", "[fill_link]") {
  Harness h(watching_swaps());
  h.link.connected(h.now);
  REQUIRE(h.feed(kGreeted + kHelloMaster + command_stats(1, 0)));
  REQUIRE(h.link.state() == FillLinkState::kServing);
  h.commands();
  next_probe(h);
  REQUIRE(h.feed(kHelloReplica + command_stats(2, 0)));
  CHECK(h.verified_until() == kStart + kStaleness);
}

TEST_CASE("a probe that the ACL forbids ends the link and its entries at once", "[fill_link]") {
  Harness h(Harness::in_cluster());
  h.serve(Harness::in_cluster());
  const std::uint32_t before = h.links.generation(h.row);
  REQUIRE(h.submit("k", 4));
  next_probe(h);
  CHECK_FALSE(h.feed(bulk("v") + ":-1\r\n" + kHelloMaster + "-NOPERM no cluster for you\r\n"));
  CHECK(h.link.state() == FillLinkState::kRefused);
  CHECK_FALSE(h.proves(before, h.now));
  CHECK_FALSE(proven(h, h.now));
}

TEST_CASE("waiters of a link that is refused while they wait are told when it closes", "[fill_link]") {
  Harness h(Harness::in_cluster());
  h.serve(Harness::in_cluster());
  next_probe(h);
  REQUIRE(h.submit("k", 4));
  REQUIRE_FALSE(h.feed("-NOPERM no hello\r\n"));
  h.lose();
  REQUIRE(h.filled.size() == 1);
  CHECK_FALSE(h.filled[0].answered);
}

TEST_CASE("slots that leave or come to the node's own view are new slots", "[fill_link]") {
  Harness h(Harness::in_cluster());
  h.serve(Harness::in_cluster());
  const auto probe_with = [&](const std::string& slots) {
    next_probe(h);
    REQUIRE(h.feed(kHelloMaster + cluster_info("ok") + cluster_nodes("master", slots)));
  };
  const std::uint32_t before = h.epochs.of(100);
  probe_with("0-16383");
  CHECK(h.epochs.of(100) == before);

  REQUIRE(h.submit("k", 2, 100));
  next_probe(h);
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  REQUIRE(h.installable());
  REQUIRE(h.feed(kHelloMaster + cluster_info("ok") + cluster_nodes("master", "0-99 101-16383")));
  CHECK_FALSE(h.installable());
  const std::uint32_t away = h.epochs.of(100);
  CHECK(away != before);
  CHECK(h.epochs.of(99) == 0);
  CHECK(h.epochs.of(101) == 0);
  CHECK_FALSE(h.submit("k", 3, 100));
  CHECK(h.submit("l", 3, 101));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));

  probe_with("0-16383");  // and back: what was read before it left is still dead
  CHECK(h.epochs.of(100) != away);
  CHECK(h.epochs.of(100) != before);
  CHECK(h.submit("k", 4, 100));
}

TEST_CASE("a node that became a replica lost all its slots", "[fill_link]") {
  Harness h(Harness::in_cluster());
  h.serve(Harness::in_cluster());
  next_probe(h);
  REQUIRE(h.feed(kHelloMaster + cluster_info("ok") + cluster_nodes("slave", "")));
  CHECK(h.epochs.of(0) != 0);
  CHECK(h.epochs.of(16383) != 0);
  CHECK(h.log == std::vector<std::string>{"slots moved 16384"});
  CHECK_FALSE(h.submit("k"));
}

TEST_CASE("a view in a probe that is bad for another reason still bumps", "[fill_link]") {
  Harness h(Harness::in_cluster());
  h.serve(Harness::in_cluster());
  next_probe(h);
  REQUIRE(h.feed(kHelloMaster + cluster_info("fail") + cluster_nodes("master", "1-16383")));
  CHECK(h.epochs.of(0) != 0);
}

TEST_CASE("a node that does not answer in time is given up", "[fill_link]") {
  SECTION("a fill") {
    Harness h;
    h.serve();
    REQUIRE(h.submit("k"));
    CHECK(h.link.tick(kStart + kReplyTimeout));
    CHECK_FALSE(h.link.tick(kStart + kReplyTimeout + 1));
  }
  SECTION("the second half of a fill") {
    Harness h;
    h.serve();
    REQUIRE(h.submit("k"));
    REQUIRE(h.feed(bulk("v")));
    CHECK_FALSE(h.link.tick(kStart + kReplyTimeout + 1));
  }
  SECTION("the greeting") {
    Harness h;
    h.link.connected(h.now);
    CHECK(h.link.tick(kStart + kReplyTimeout));
    CHECK_FALSE(h.link.tick(kStart + kReplyTimeout + 1));
  }
  SECTION("not while bytes come: a long reply, or a stalled loop here, is no silence of the node") {
    Harness h;
    h.serve();
    REQUIRE(h.submit("k"));
    h.now += kReplyTimeout + 1;
    REQUIRE(h.feed("$100000\r\nhalf a rep"));
    CHECK(h.link.tick(h.now + kReplyTimeout));
    CHECK_FALSE(h.link.tick(h.now + kReplyTimeout + 1));
  }
  SECTION("nobody is asked on a closed or refused link") {
    Harness h;
    CHECK(h.link.tick(kStart + 100 * kReplyTimeout));
    h.link.connected(h.now);
    CHECK_FALSE(h.feed("-ERR unknown command 'HELLO'\r\n"));
    h.lose();
    CHECK(h.link.tick(kStart + 100 * kReplyTimeout));
    CHECK(h.link.output().empty());
  }
}

TEST_CASE("a SWAPDB that trackers are not told of is seen in the server's counts", "[fill_link]") {
  struct Case {
    const char* name;
    std::uint64_t infos, swaps;
    bool drops;
  };
  // Before: INFO was called 5 times, SWAPDB twice.
  const Case cases[] = {
      {"nothing but our own polls", 6, 2, false},
      {"others ask INFO as well", 60, 2, false},
      {"a swap", 6, 3, true},
      {"counts were reset", 0, 0, true},
      {"counts were reset and INFO asked as often as before", 5, 2, true},
      {"counts were reset, swaps as many as before", 1, 2, true},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    Harness h(watching_swaps());
    h.link.connected(h.now);
    REQUIRE(h.feed(kGreeted + kHelloMaster + command_stats(5, 2)));
    REQUIRE(h.link.state() == FillLinkState::kServing);
    h.log.clear();
    h.commands();
    const std::uint32_t before = h.links.generation(h.row);
    next_probe(h);
    REQUIRE(h.feed(kHelloMaster + command_stats(c.infos, c.swaps)));
    CHECK((h.links.generation(h.row) != before) == c.drops);
    CHECK((h.log == std::vector<std::string>{"invalidated all"}) == c.drops);
    CHECK(h.verified_until() == h.now + kStaleness);
    // What it saw is the new measure.
    const std::uint32_t after = h.links.generation(h.row);
    next_probe(h);
    REQUIRE(h.feed(kHelloMaster + command_stats(c.infos + 1, c.swaps)));
    CHECK(h.links.generation(h.row) == after);
  }
}

TEST_CASE("the counts of one connection are no measure for the next: another server may be there", "[fill_link]") {
  Harness h(watching_swaps());
  h.link.connected(h.now);
  REQUIRE(h.feed(kGreeted + kHelloMaster + command_stats(5, 2)));
  h.lose();
  h.link.connected(h.now);
  h.log.clear();
  REQUIRE(h.feed(kGreeted + kHelloMaster + command_stats(1, 0)));
  CHECK(h.link.state() == FillLinkState::kServing);
  CHECK(h.log == std::vector<std::string>{"state 2 "});
}

TEST_CASE("the first INFO of a fresh server counts no INFO, the second one is no reset", "[fill_link]") {
  Harness h(watching_swaps());
  h.link.connected(h.now);
  REQUIRE(h.feed(kGreeted + kHelloMaster + command_stats(0, 0)));
  const std::uint32_t before = h.links.generation(h.row);
  h.commands();
  next_probe(h);
  REQUIRE(h.feed(kHelloMaster + command_stats(1, 0)));
  CHECK(h.links.generation(h.row) == before);
  next_probe(h);
  REQUIRE(h.feed(kHelloMaster + command_stats(2, 1)));
  CHECK(h.links.generation(h.row) != before);
}

}  // namespace nearcached::tiers::coherence
