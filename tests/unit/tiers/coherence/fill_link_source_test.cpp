// Who tells the link of changes: which source it takes, what that means for its entries, what a loss leaves.
#include <catch2/catch.hpp>

#include "tests/unit/tiers/coherence/fill_link_harness.hpp"
#include "tiers/coherence/fill_link.hpp"

namespace nearcached::tiers::coherence {
namespace {

using namespace testing;

const std::string kNoTracking = "-NOPERM no permissions to run the 'client|tracking' command\r\n";

FillLinkOptions with_sources(std::vector<ChangeSource> sources) {
  FillLinkOptions options = Harness::with_defaults();
  options.sources = std::move(sources);
  options.bus_channel = "near";
  return options;
}

FillLinkOptions auto_without_bus() { return with_sources({ChangeSource::kTracking, ChangeSource::kTtl}); }

// Through a greeting that ends in ttl because tracking is refused.
void serve_ttl(Harness& h) {
  h.link.connected(h.now);
  REQUIRE(h.feed(kHelloMaster + kNoFieldExpiry + kNoTracking + kHelloMaster));
  REQUIRE(h.link.state() == FillLinkState::kServing);
  REQUIRE(h.link.source() == ChangeSource::kTtl);
  h.commands();
  h.log.clear();
}

// What is asked for at this time besides the probe, which is answered.
std::vector<Command> ask_again(Harness& h, std::int64_t after_us = FillLink::kBetterSourceUs) {
  h.now += after_us;
  h.commands();
  REQUIRE(h.link.tick(h.now));
  std::vector<Command> sent = h.commands();
  if (std::erase(sent, Command{"HELLO"}) != 0) REQUIRE(h.feed(kHelloMaster));
  return sent;
}

}  // namespace

TEST_CASE("the sources are asked for in their order, and the first that is had is taken", "[fill_link]") {
  Harness h(with_sources({ChangeSource::kTracking, ChangeSource::kBus, ChangeSource::kTtl}));
  h.link.connected(h.now);
  CHECK(h.commands().back() == Command{"CLIENT", "TRACKING", "ON"});
  REQUIRE(h.feed(kHelloMaster + kNoFieldExpiry));
  SECTION("tracking") {
    REQUIRE(h.feed(kOk));
    CHECK(h.commands() == std::vector<Command>{{"HELLO"}});
    CHECK(h.link.source() == ChangeSource::kTracking);
    CHECK(h.link.source_reason().empty());
  }
  SECTION("the bus") {
    REQUIRE(h.feed(kNoTracking));
    CHECK(h.commands() == std::vector<Command>{{"SUBSCRIBE", "near"}});
    REQUIRE(h.link.tick(h.now));
    CHECK(h.commands().empty());  // no proof is asked for before it is known who tells of changes
    REQUIRE(h.feed(">3\r\n+subscribe\r\n+near\r\n:1\r\n"));
    CHECK(h.commands() == std::vector<Command>{{"HELLO"}});
    CHECK(h.link.source() == ChangeSource::kBus);
    CHECK(h.link.source_reason().find("CLIENT TRACKING refused: NOPERM") == 0);
    CHECK(h.links.proven_us(h.row) == 0);
    REQUIRE(h.feed(kHelloMaster));
    CHECK(h.link.state() == FillLinkState::kServing);
    CHECK(h.links.proven_us(h.row) == h.now);
  }
  SECTION("nobody: the first reason stays") {
    REQUIRE(h.feed(kNoTracking));
    REQUIRE(h.feed("-NOPERM no channels for you\r\n"));
    CHECK(h.link.source() == ChangeSource::kTtl);
    CHECK(h.link.source_reason().find("CLIENT TRACKING refused") == 0);
    CHECK(h.link.state() == FillLinkState::kGreeting);
    REQUIRE(h.feed(kHelloMaster));
    CHECK(h.link.state() == FillLinkState::kServing);
    CHECK(h.links.proven_us(h.row) == LinkTable::kForever);
  }
}

TEST_CASE("where the last source is refused the link is, and says why", "[fill_link]") {
  SECTION("tracking alone") {
    Harness h;
    h.link.connected(h.now);
    CHECK_FALSE(h.feed(kHelloMaster + kNoFieldExpiry + kNoTracking));
    CHECK(h.link.state() == FillLinkState::kRefused);
    CHECK(h.link.state_reason().find("CLIENT TRACKING refused: NOPERM") == 0);
  }
  SECTION("the bus alone") {
    Harness h(with_sources({ChangeSource::kBus}));
    h.link.connected(h.now);
    CHECK_FALSE(h.feed(kHelloMaster + kNoFieldExpiry + "-NOPERM no channels for you\r\n"));
    CHECK(h.link.state() == FillLinkState::kRefused);
    CHECK(h.link.state_reason().find("SUBSCRIBE refused: NOPERM") == 0);
  }
  SECTION("tracking, then the bus: the reason is the first one") {
    Harness h(with_sources({ChangeSource::kTracking, ChangeSource::kBus}));
    h.link.connected(h.now);
    CHECK_FALSE(h.feed(kHelloMaster + kNoFieldExpiry + kNoTracking + "!8\r\nERR sub!\r\n"));
    CHECK(h.link.state() == FillLinkState::kRefused);
    CHECK(h.link.state_reason().find("CLIENT TRACKING refused") == 0);
    // At the next attempt everything is asked for anew: another server may be there.
    h.lose();
    h.link.connected(h.now);
    h.commands();
    REQUIRE(h.feed(kGreeted + kHelloMaster));
    CHECK(h.link.state() == FillLinkState::kServing);
    CHECK(h.link.source() == ChangeSource::kTracking);
    CHECK(h.link.source_reason().empty());
  }
}

TEST_CASE("without a source of changes entries live by their deadline, and through a lost connection", "[fill_link]") {
  FillLinkOptions options = with_sources({ChangeSource::kTtl});
  options.ttl_is_bound = GENERATE(false, true);
  Harness h(options);
  h.link.connected(h.now);
  CHECK(h.commands() == std::vector<Command>{{"HELLO", "3"}, {"COMMAND", "INFO", "HPTTL"}, {"HELLO"}});
  REQUIRE(h.feed(kHelloMaster + kNoFieldExpiry));
  CHECK(h.link.state() == FillLinkState::kGreeting);
  REQUIRE(h.feed(kHelloMaster));
  REQUIRE(h.link.state() == FillLinkState::kServing);
  CHECK(h.links.proven_us(h.row) == LinkTable::kForever);
  REQUIRE(h.submit("k"));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  CHECK(h.installable());
  CHECK(h.filled[0].unwatched != options.ttl_is_bound);
  REQUIRE(h.submit("under way"));
  h.lose();
  CHECK_FALSE(h.filled[1].answered);
  CHECK(h.current(h.filled[0].basis, "k"));
  CHECK(h.links.proven_us(h.row) == LinkTable::kForever);
  h.serve();
  CHECK(h.current(h.filled[0].basis, "k"));
}

TEST_CASE("without a source of changes the ACL may forbid the probe, a node that is none of ours is still none",
          "[fill_link]") {
  FillLinkOptions options = with_sources({ChangeSource::kTtl});
  SECTION("forbidden") {
    options.cluster = true;
    options.in_flight_max = 1;
    Harness h(options);
    REQUIRE(h.submit("held", 1));
    h.link.connected(h.now);
    REQUIRE(h.feed(kHelloMaster + kNoFieldExpiry + "-NOPERM a\r\n-NOPERM b\r\n-NOPERM c\r\n"));
    CHECK(h.link.state() == FillLinkState::kServing);
    // What its slots are is not known, so nothing is turned away for it, waiting or not; nor is a slot known to be closed.
    REQUIRE(h.submit("paced", 2));
    REQUIRE(h.feed(bulk("v") + ":-1\r\n_\r\n:-2\r\n"));
    REQUIRE(h.filled.size() == 2);
    CHECK(h.filled[0].installable);
    CHECK(h.filled[1].answered);
    CHECK_FALSE(h.filled[1].cacheable);
  }
  SECTION("a replica") {
    Harness h(options);
    h.link.connected(h.now);
    REQUIRE(h.feed(kHelloMaster + kNoFieldExpiry + kHelloReplica));
    CHECK(h.link.state() == FillLinkState::kGreeting);
    CHECK(h.links.proven_us(h.row) == 0);
  }
}

TEST_CASE("where the ACL forbids what tracking is proven by, deadlines are left, and tracking is not asked for again",
          "[fill_link]") {
  FillLinkOptions options = auto_without_bus();
  options.cluster = true;
  Harness h(options);
  h.link.connected(h.now);
  REQUIRE(h.feed(kGreeted + kHelloMaster + "-NOPERM no cluster info\r\n" + "-NOPERM no cluster nodes\r\n"));
  CHECK(h.link.source() == ChangeSource::kTtl);
  CHECK(h.link.source_reason().find("NOPERM") != std::string::npos);
  CHECK(h.link.state() == FillLinkState::kServing);
  h.commands();
  for (int i = 0; i < 30; ++i) {
    h.now += 400'000;
    REQUIRE(h.link.tick(h.now));
    for (const Command& command : h.commands()) CHECK(command.front() != "CLIENT");
    REQUIRE(h.feed(kHelloMaster + "-NOPERM no cluster info\r\n" + "-NOPERM no cluster nodes\r\n"));
  }
  CHECK(h.link.source() == ChangeSource::kTtl);
  h.lose();
  h.link.connected(h.now);
  REQUIRE(h.feed(kGreeted + Harness::good_probe(Harness::in_cluster())));
  CHECK(h.link.source() == ChangeSource::kTracking);
}

TEST_CASE("a better source is asked for again, and what was read without it is dead", "[fill_link]") {
  Harness h(auto_without_bus());
  serve_ttl(h);
  REQUIRE(h.submit("before"));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  REQUIRE(h.installable());
  CHECK(ask_again(h, FillLink::kBetterSourceUs - 1).empty());
  CHECK(ask_again(h, 1) == std::vector<Command>{{"CLIENT", "TRACKING", "ON"}});
  SECTION("still refused: all is as before, and it is asked again later") {
    REQUIRE(h.feed(kNoTracking));
    CHECK(h.link.state() == FillLinkState::kServing);
    CHECK(h.link.source() == ChangeSource::kTtl);
    CHECK_FALSE(h.link.source_reason().empty());
    CHECK(h.installable());
    CHECK(ask_again(h, kStaleness).empty());
    CHECK(ask_again(h, FillLink::kBetterSourceUs - kStaleness) == std::vector<Command>{{"CLIENT", "TRACKING", "ON"}});
  }
  SECTION("granted") {
    REQUIRE(h.submit("between"));  // its GET is behind the tracking, its basis is not
    h.commands();
    REQUIRE(h.feed(kOk));
    CHECK(h.link.source() == ChangeSource::kTracking);
    CHECK(h.link.source_reason().empty());
    CHECK(h.links.purged(h.row, h.filled[0].basis.generation));
    REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
    CHECK(h.filled.back().answered);
    CHECK_FALSE(h.installable());
    CHECK(h.commands() == std::vector<Command>{{"HELLO"}});
    // Until its first probe nothing is proven, least of all for ever, and nothing is read.
    CHECK(h.links.proven_us(h.row) == 0);
    REQUIRE(h.submit("after"));
    CHECK(h.commands().empty());
    const std::int64_t sent = h.now;
    h.now += 1000;
    REQUIRE(h.feed(kHelloMaster));
    CHECK(h.links.proven_us(h.row) == sent);
    CHECK(h.commands() == std::vector<Command>{{"GET", "after"}, {"PTTL", "after"}});
    REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
    CHECK(h.installable());
    CHECK_FALSE(h.filled.back().unwatched);
    // Now a loss is a loss.
    h.lose();
    CHECK(h.links.proven_us(h.row) == 0);
    CHECK_FALSE(h.installable());
  }
  SECTION("granted by a node that has become a replica") {
    REQUIRE(h.feed(kOk + kHelloReplica));
    CHECK(h.links.proven_us(h.row) == 0);
    CHECK(h.submit("k"));
    CHECK(h.link.reads_in_flight() == 0);
  }
  SECTION("it is not asked again once it is had") {
    REQUIRE(h.feed(kOk + kHelloMaster));
    h.commands();
    CHECK(ask_again(h).empty());
  }
}

TEST_CASE("tracking that is refused after a reconnect leaves nothing of what it vouched for", "[fill_link]") {
  Harness h(auto_without_bus());
  h.serve();
  REQUIRE(h.submit("k"));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  REQUIRE(h.installable());
  CHECK_FALSE(h.filled[0].unwatched);
  h.lose();
  serve_ttl(h);
  CHECK(h.links.proven_us(h.row) == LinkTable::kForever);
  CHECK_FALSE(h.installable());
  CHECK(h.links.purged(h.row, h.filled[0].basis.generation));
}

TEST_CASE("entries without a source of changes die when a reconnect brings one, or a refusal", "[fill_link]") {
  Harness h(auto_without_bus());
  serve_ttl(h);
  REQUIRE(h.submit("k"));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  CHECK(h.filled[0].unwatched);
  h.lose();
  h.link.connected(h.now);
  CHECK(h.current(h.filled[0].basis, "k"));
  SECTION("tracking") {
    REQUIRE(h.feed(kGreeted));
    CHECK(h.links.proven_us(h.row) == 0);
    CHECK_FALSE(h.current(h.filled[0].basis, "k"));
  }
  SECTION("refusal") {
    REQUIRE_FALSE(h.feed("-ERR unknown command 'HELLO'\r\n"));
    CHECK(h.links.proven_us(h.row) == 0);
    CHECK_FALSE(h.current(h.filled[0].basis, "k"));
  }
}

TEST_CASE("attempts that fail do not forget when the entries were proven last", "[fill_link]") {
  Harness h(Harness::in_cluster());
  h.serve(Harness::in_cluster());
  const std::uint32_t generation = h.links.generation(h.row);
  const std::int64_t proven = h.links.proven_us(h.row);
  h.lose();
  CHECK(h.links.generation(h.row) == generation + 1);
  const std::string got_so_far[] = {"", "", kHelloMaster, kGreeted, kGreeted + kHelloReplica};
  for (std::uint32_t attempt = 0; attempt < 3 * LinkTable::kGenerationsKept; ++attempt) {
    const std::string& bytes = got_so_far[attempt % 5];
    if (attempt % 5 != 0) h.link.connected(h.now);
    REQUIRE(h.feed(bytes));
    h.lose();
  }
  h.link.connected(h.now);
  REQUIRE_FALSE(h.feed("-LOADING Redis is loading the dataset in memory\r\n"));
  h.lose();
  CHECK(h.links.last_proof_us(h.row, generation) == proven);
  CHECK_FALSE(h.links.purged(h.row, generation));
  // One that answers with a refusal can be reached: nothing unverified is served in its stead.
  h.link.connected(h.now);
  REQUIRE_FALSE(h.feed("-ERR max number of clients reached\r\n"));
  h.lose();
  CHECK(h.links.purged(h.row, generation));
  // And a proof that comes after all is for what is read then.
  h.serve(Harness::in_cluster());
  CHECK(h.links.proven_us(h.row) == h.now);
  CHECK(h.links.generation(h.row) != generation);
}

}  // namespace nearcached::tiers::coherence
