// Reads that wait: for a place on the connection, for the link to serve; and those who wait for a proof.
#include <catch2/catch.hpp>

#include "tests/unit/tiers/coherence/fill_link_harness.hpp"
#include "tiers/coherence/fill_link.hpp"

namespace nearcached::tiers::coherence {
namespace {

using namespace testing;
using Tokens = std::vector<std::uint64_t>;

constexpr std::int64_t kHold = 300'000;

FillLinkOptions paced(std::size_t in_flight, std::size_t waiting = 100) {
  FillLinkOptions options = Harness::with_defaults();
  options.hold_us = kHold;
  options.in_flight_max = in_flight;
  options.waiting_max = waiting;
  return options;
}

const Command kGetK{"GET", "k"};
const Command kPttlK{"PTTL", "k"};

}  // namespace

TEST_CASE("no more reads than allowed are on their way, the others follow in their order", "[fill_link]") {
  Harness h(paced(2));
  h.serve();
  const std::vector<std::string> keys{"a", "b", "c", "d", "e"};
  for (const std::string& key : keys) REQUIRE(h.submit(key));
  CHECK(h.commands() == std::vector<Command>{{"GET", "a"}, {"PTTL", "a"}, {"GET", "b"}, {"PTTL", "b"}});
  CHECK(h.link.reads_in_flight() == 2);
  CHECK(h.link.reads_waiting() == 3);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    REQUIRE(h.feed(bulk(keys[i]) + ":-1\r\n"));
    REQUIRE(h.filled.size() == i + 1);
    CHECK(h.filled[i].key == keys[i]);
    CHECK(h.filled[i].reply == bulk(keys[i]));
    const std::vector<Command> next = h.commands();
    CHECK(next.size() == (i + 2 < keys.size() ? 2 : 0));
    if (!next.empty()) CHECK(next[0] == Command{"GET", keys[i + 2]});
    CHECK(h.link.reads_in_flight() <= 2);
  }
  CHECK(h.link.reads_waiting() == 0);
}

TEST_CASE("a read does not overtake those that wait", "[fill_link]") {
  Harness h(paced(1));
  h.serve();
  REQUIRE(h.submit("a"));
  REQUIRE(h.submit("b"));
  h.commands();
  // From inside the answer of the first there is a free place, but it is the second's.
  bool once = true;
  h.when_filled = [&](const Filled&) {
    if (std::exchange(once, false)) REQUIRE(h.submit("c"));
  };
  REQUIRE(h.feed(bulk("a") + ":-1\r\n"));
  CHECK(h.commands() == std::vector<Command>{{"GET", "b"}, {"PTTL", "b"}});
  CHECK(h.link.reads_waiting() == 1);
}

TEST_CASE("what a paced read stands on is what holds when it leaves", "[fill_link]") {
  Harness h(paced(1));
  h.serve();
  REQUIRE(h.submit("a"));
  REQUIRE(h.submit("k"));
  h.now += 5000;
  h.fences.begin_write(Harness::hash("k"));
  SECTION("a write that ended while it waited is no hindrance") {
    h.fences.end_write(Harness::hash("k"));
    REQUIRE(h.feed(bulk("a") + ":-1\r\n" + bulk("v") + ":5\r\n"));
    CHECK(h.filled[1].installable);
    CHECK(h.filled[1].sent_us == kStart + 5000);
    CHECK(h.filled[1].expires_at_us == kStart + 5000 + 5000);
  }
  SECTION("one that is under way when it leaves makes it nobody else's") {
    REQUIRE(h.feed(bulk("a") + ":-1\r\n"));
    h.commands();
    REQUIRE(h.submit("k", 2));
    h.fences.end_write(Harness::hash("k"));
    REQUIRE(h.submit("k", 3));
    REQUIRE(h.feed(bulk("old") + ":-1\r\n"));
    CHECK(h.filled[1].tokens == Tokens{1});
    CHECK_FALSE(h.filled[1].installable);
  }
  SECTION("a purge while it waits does not concern it") {
    h.fences.end_write(Harness::hash("k"));
    REQUIRE(h.feed(kPushAll + bulk("a") + ":-1\r\n" + bulk("v") + ":-1\r\n"));
    CHECK_FALSE(h.filled[0].installable);
    CHECK(h.filled[1].installable);
  }
}

TEST_CASE("a waiting read is joined whatever has happened to the key: it reads after that", "[fill_link]") {
  Harness h(paced(1));
  h.serve();
  REQUIRE(h.submit("a"));
  REQUIRE(h.submit("k", 1));
  h.fences.begin_write(Harness::hash("k"));
  h.fences.end_write(Harness::hash("k"));
  REQUIRE(h.submit("k", 2));
  REQUIRE(h.feed(push_of("k")));
  REQUIRE(h.submit("k", 3));
  CHECK(h.link.reads_waiting() == 1);
  CHECK(h.link.joined() == 2);
  h.commands();
  REQUIRE(h.feed(bulk("a") + ":-1\r\n"));
  CHECK(h.commands() == std::vector<Command>{kGetK, kPttlK});
  REQUIRE(h.submit("k", 4));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
  REQUIRE(h.filled.size() == 2);
  CHECK(h.filled[1].tokens == Tokens{1, 2, 3, 4});
  CHECK(h.filled[1].installable);
}

TEST_CASE("reads that wait are bounded, and so are the waiters of each", "[fill_link]") {
  FillLinkOptions options = paced(1, 2);
  options.joined_max = 2;
  Harness h(options);
  h.serve();
  REQUIRE(h.submit("k", 1));
  REQUIRE(h.submit("k", 2));
  REQUIRE(h.submit("k", 3));  // one read's waiters are full: a second read
  REQUIRE(h.submit("k", 4));
  REQUIRE(h.submit("l", 5));
  CHECK(h.link.reads_waiting() == 2);
  CHECK_FALSE(h.submit("m", 6));
  CHECK_FALSE(h.submit("k", 7));
  CHECK(h.submit("l", 8));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n" + bulk("v") + ":-1\r\n" + bulk("v") + ":-1\r\n"));
  REQUIRE(h.filled.size() == 3);
  CHECK(h.filled[0].tokens == Tokens{1, 2});
  CHECK(h.filled[1].tokens == Tokens{3, 4});
  CHECK(h.filled[2].tokens == Tokens{5, 8});
  CHECK(h.submit("m", 9));
}

TEST_CASE("a read waits for a link that is not serving, for so long and no longer", "[fill_link]") {
  const auto check = [](Harness& h) {
    REQUIRE(h.submit("k", 1));
    h.now += kHold / 2;
    REQUIRE(h.submit("k", 2));  // joins: it goes when the first one goes
    REQUIRE(h.submit("l", 3));
    h.now += kHold - kHold / 2;
    REQUIRE(h.link.tick(h.now));
    CHECK(h.filled.empty());
    REQUIRE(h.link.tick(++h.now));
    REQUIRE(h.filled.size() == 1);
    CHECK(h.filled[0].key == "k");
    CHECK_FALSE(h.filled[0].answered);
    CHECK_FALSE(h.filled[0].cacheable);
    CHECK(h.filled[0].tokens == Tokens{1, 2});
    REQUIRE(h.submit("k", 4));  // not joined to the one that went
    REQUIRE(h.link.tick(h.now + kHold));
    REQUIRE(h.filled.size() == 2);
    CHECK(h.filled[1].tokens == Tokens{3});
    CHECK(h.link.reads_waiting() == 1);
  };
  SECTION("never connected") {
    Harness h(paced(8));
    check(h);
  }
  SECTION("in its greeting") {
    Harness h(paced(8));
    h.link.connected(h.now);
    check(h);
  }
  SECTION("lost") {
    Harness h(paced(8));
    h.serve();
    h.lose();
    check(h);
  }
  SECTION("connected, but its last probe was bad") {
    Harness h(paced(8));
    h.serve();
    h.now += kStaleness / 3;
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.feed(kHelloReplica));
    check(h);
  }
}

TEST_CASE("reads that wait for a place are not given up while the link serves", "[fill_link]") {
  Harness h(paced(1));
  h.serve();
  REQUIRE(h.submit("a"));
  REQUIRE(h.submit("k"));
  h.now += kHold + 1;
  REQUIRE(h.link.tick(h.now));
  CHECK(h.filled.empty());
  REQUIRE(h.feed(bulk("a") + ":-1\r\n" + bulk("v") + ":-1\r\n"));
  CHECK(h.filled.size() == 2);
  CHECK(h.filled[1].answered);
}

TEST_CASE("held reads go out once on the next connection, each key once, paced", "[fill_link]") {
  Harness h(paced(2));
  h.serve();
  REQUIRE(h.submit("gone", 1));
  h.lose();
  REQUIRE(h.filled.size() == 1);
  CHECK_FALSE(h.filled[0].answered);
  for (std::uint64_t token = 9; token < 39; ++token) REQUIRE(h.submit("k" + std::to_string(token % 3), token));
  CHECK(h.link.reads_waiting() == 3);
  h.now += kHold / 2;
  h.link.connected(h.now);
  REQUIRE(h.feed(kGreeted));
  h.commands();
  CHECK(h.link.reads_in_flight() == 0);
  REQUIRE(h.feed(kHelloMaster));
  CHECK(h.commands() == std::vector<Command>{{"GET", "k0"}, {"PTTL", "k0"}, {"GET", "k1"}, {"PTTL", "k1"}});
  REQUIRE(h.feed(bulk("0") + ":-1\r\n" + bulk("1") + ":-1\r\n" + bulk("2") + ":-1\r\n"));
  REQUIRE(h.filled.size() == 4);
  std::size_t told = 0;
  for (std::size_t i = 1; i < 4; ++i) {
    CHECK(h.filled[i].installable);
    CHECK(h.filled[i].link_is_proof);
    CHECK(h.filled[i].sent_us == h.now);
    told += h.filled[i].tokens.size();
  }
  CHECK(told == 30);
}

TEST_CASE("a hold that began before several failed attempts ends on time", "[fill_link]") {
  Harness h(paced(2));
  REQUIRE(h.submit("k"));
  for (int attempt = 0; attempt < 3; ++attempt) {
    h.now += kHold / 4;
    h.link.connected(h.now);
    REQUIRE(h.link.tick(h.now));
    h.lose();
  }
  CHECK(h.filled.empty());
  h.now += kHold;
  REQUIRE(h.link.tick(h.now));
  REQUIRE(h.filled.size() == 1);
  CHECK_FALSE(h.filled[0].answered);
}

TEST_CASE("a held read whose slot the node turns out not to have goes the ordinary way", "[fill_link]") {
  FillLinkOptions options = Harness::in_cluster();
  Harness h(options);
  REQUIRE(h.submit("there", 1, 100));
  REQUIRE(h.submit("here", 2, 101));
  h.link.connected(h.now);
  REQUIRE(h.feed(kGreeted + kHelloMaster + cluster_info("ok") + cluster_nodes("master", "101-16383")));
  REQUIRE(h.filled.size() == 1);
  CHECK(h.filled[0].key == "there");
  CHECK_FALSE(h.filled[0].answered);
  CHECK(h.link.reads_in_flight() == 1);
  CHECK_FALSE(h.submit("there", 3, 100));
}

TEST_CASE("the slots of a lost connection turn nobody away from the next one", "[fill_link]") {
  Harness h(Harness::in_cluster());
  h.link.connected(h.now);
  REQUIRE(h.feed(kGreeted + kHelloMaster + cluster_info("ok") + cluster_nodes("master", "0-99")));
  CHECK_FALSE(h.submit("k", 1, 100));
  h.lose();
  REQUIRE(h.submit("k", 2, 100));
  const std::uint32_t before = h.epochs.of(100);
  h.serve(Harness::in_cluster());
  CHECK(h.epochs.of(100) == before);  // not a slot that came: a node that was looked at anew
  CHECK(h.link.reads_in_flight() == 1);
}

TEST_CASE("a read that waits while its slot gets another owner is not made here", "[fill_link]") {
  SECTION("held: told at the next tick") {
    Harness h(paced(2));
    REQUIRE(h.submit("k", 1));
    REQUIRE(h.link.tick(h.now));
    CHECK(h.filled.empty());
    h.epochs.bump(kSlot);
    REQUIRE(h.link.tick(h.now));
    REQUIRE(h.filled.size() == 1);
    CHECK_FALSE(h.filled[0].answered);
  }
  SECTION("held: told when the link serves") {
    Harness h(paced(2));
    REQUIRE(h.submit("k", 1));
    h.epochs.bump(kSlot);
    REQUIRE(h.submit("k", 2));  // chosen by the newer topology: a read of its own
    h.serve();
    REQUIRE(h.filled.size() == 1);
    CHECK(h.filled[0].tokens == Tokens{1});
    CHECK_FALSE(h.filled[0].answered);
    CHECK(h.link.reads_in_flight() == 1);
    REQUIRE(h.feed(bulk("v") + ":-1\r\n"));
    CHECK(h.filled[1].tokens == Tokens{2});
    CHECK(h.filled[1].installable);
  }
  SECTION("paced") {
    Harness h(paced(1));
    h.serve();
    REQUIRE(h.submit("a", 1));
    REQUIRE(h.submit("k", 2));
    h.epochs.bump(kSlot);
    REQUIRE(h.feed(bulk("a") + ":-1\r\n"));
    REQUIRE(h.filled.size() == 2);
    CHECK_FALSE(h.filled[1].answered);
    CHECK(h.link.reads_in_flight() == 0);
  }
}

TEST_CASE("a read that was routed by an older topology is no entry, and none of a newer one joins it", "[fill_link]") {
  Harness h(paced(8));
  h.serve();
  std::string command;
  protocol::append_command(command, {"GET", "k"});
  FillRead read{"k", Harness::hash("k"), kSlot, command, {}};
  read.slot_epoch = h.epochs.of(kSlot);
  SECTION("nor does another of the older one, once it is known to be older") {
    REQUIRE(h.link.submit(read, {nullptr, 1, 0}, h.now));
    h.epochs.bump(kSlot);
    REQUIRE(h.link.submit(read, {nullptr, 2, 0}, h.now));
    CHECK(h.link.reads_in_flight() == 2);
    return;
  }
  h.epochs.bump(kSlot);
  REQUIRE(h.link.submit(read, {nullptr, 1, 0}, h.now));
  REQUIRE(h.submit("k", 2));
  REQUIRE(h.feed(bulk("v") + ":-1\r\n" + bulk("w") + ":-1\r\n"));
  REQUIRE(h.filled.size() == 2);
  CHECK(h.filled[0].tokens == Tokens{1});
  CHECK_FALSE(h.filled[0].installable);
  CHECK(h.filled[1].tokens == Tokens{2});
  CHECK(h.filled[1].installable);
}

TEST_CASE("a flight that left before what its reader may be told is not joined, one that is to leave is", "[fill_link]") {
  Harness h(paced(1));
  h.serve();
  std::string command;
  protocol::append_command(command, {"GET", "k"});
  FillRead read{"k", Harness::hash("k"), kSlot, command, {}};
  const std::int64_t left_us = h.now;
  REQUIRE(h.link.submit(read, {nullptr, 1, 0}, h.now));
  h.now += 50'000;
  read.not_before_us = left_us;
  REQUIRE(h.link.submit(read, {nullptr, 2, 0}, h.now));
  CHECK(h.link.joined() == 1);
  read.not_before_us = left_us + 1;
  REQUIRE(h.link.submit(read, {nullptr, 3, 0}, h.now));
  CHECK(h.link.joined() == 1);
  CHECK(h.link.reads_waiting() == 1);
  h.now += 50'000;
  read.not_before_us = h.now;
  REQUIRE(h.link.submit(read, {nullptr, 4, 0}, h.now));
  CHECK(h.link.joined() == 2);
  REQUIRE(h.feed(bulk("old") + ":-1\r\n"));
  REQUIRE(h.feed(bulk("new") + ":-1\r\n"));
  REQUIRE(h.filled.size() == 2);
  CHECK(h.filled[0].tokens == Tokens{1, 2});
  CHECK(h.filled[1].tokens == Tokens{3, 4});
}

TEST_CASE("whoever waits for a link that is refused is told at once, whoever comes then is refused", "[fill_link]") {
  SECTION("when the connection is closed") {
    Harness h(paced(2));
    REQUIRE(h.submit("k", 1));
    h.link.connected(h.now);
    REQUIRE(h.submit("l", 2));
    REQUIRE_FALSE(h.feed("-ERR unknown command 'HELLO'\r\n"));
    CHECK_FALSE(h.submit("k", 3));
    h.lose();
    REQUIRE(h.filled.size() == 2);
    CHECK(h.filled[0].tokens == Tokens{1});
    CHECK(h.filled[1].tokens == Tokens{2});
    CHECK_FALSE(h.filled[0].answered);
    CHECK_FALSE(h.filled[1].answered);
    CHECK(h.link.reads_waiting() == 0);
  }
  SECTION("at a tick, if that comes first") {
    Harness h(paced(2));
    REQUIRE(h.submit("k", 1));
    h.link.connected(h.now);
    REQUIRE_FALSE(h.feed("-ERR unknown command 'HELLO'\r\n"));
    REQUIRE(h.link.tick(h.now));
    CHECK(h.filled.size() == 1);
    h.lose();
    CHECK(h.filled.size() == 1);
  }
}

TEST_CASE("a link that ends tells all that wait", "[fill_link]") {
  Harness h(paced(1));
  h.serve();
  REQUIRE(h.submit("a", 1));
  REQUIRE(h.submit("k", 2));
  REQUIRE(h.submit("k", 3));
  h.lose();
  h.link.end_waiting();
  REQUIRE(h.filled.size() == 2);
  CHECK(h.filled[1].tokens == Tokens{2, 3});
  CHECK_FALSE(h.filled[1].answered);
  h.link.end_waiting();
  CHECK(h.filled.size() == 2);
}

TEST_CASE("a waiter that asks again when its hold has run out is held anew, not for ever", "[fill_link]") {
  Harness h(paced(1));
  h.when_filled = [&](const Filled& fill) {
    if (h.filled.size() < 10) h.submit(fill.key, 9);
  };
  REQUIRE(h.submit("k"));
  h.now += kHold + 1;
  REQUIRE(h.link.tick(h.now));
  CHECK(h.filled.size() == 1);
  CHECK(h.link.reads_waiting() == 1);
}

TEST_CASE("an audit is read alone, at once or not at all, and never kept", "[fill_link]") {
  Harness h(paced(2));
  CHECK_FALSE(h.submit_read(kGetK, 1, protocol::Caching::kKey, true));  // not serving: it could not be compared in time
  h.serve();
  REQUIRE(h.submit_read(kGetK, 1));
  REQUIRE(h.submit_read(kGetK, 2, protocol::Caching::kKey, true));
  CHECK_FALSE(h.submit_read(kGetK, 3, protocol::Caching::kKey, true));  // no place
  REQUIRE(h.submit_read(kGetK, 4));                                     // joins the first, not the audit
  REQUIRE(h.feed(bulk("v") + ":-1\r\n" + bulk("v") + ":-1\r\n"));
  REQUIRE(h.filled.size() == 2);
  CHECK(h.filled[0].tokens == Tokens{1, 4});
  CHECK(h.filled[0].cacheable);
  CHECK(h.filled[1].audit);
  CHECK(h.filled[1].answered);
  CHECK_FALSE(h.filled[1].cacheable);
}

TEST_CASE("barriers that come while a PING is on its way share the next one", "[fill_link]") {
  Harness h;
  const auto passes = [&](const std::string& name) { return [&h, name] { h.log.push_back(name); }; };
  CHECK_FALSE(h.link.barrier(passes("never"), h.now, h.now));  // no entry of a closed link lives
  h.link.connected(h.now);
  CHECK_FALSE(h.link.barrier(passes("never"), h.now, h.now));
  h.lose();
  h.serve();
  REQUIRE(h.link.barrier(passes("1"), h.now, h.now));
  CHECK(h.commands() == std::vector<Command>{{"PING"}});
  REQUIRE(h.link.barrier(passes("2"), h.now, h.now));
  REQUIRE(h.link.barrier(passes("3"), h.now, h.now));
  CHECK(h.commands().empty());
  SECTION("in the order of the wire") {
    REQUIRE(h.feed(push_of("a") + "+PO"));
    CHECK(h.log == std::vector<std::string>{"invalidated a"});
    REQUIRE(h.feed("NG\r\n" + push_of("b")));
    CHECK(h.log == std::vector<std::string>{"invalidated a", "1", "invalidated b"});
    CHECK(h.commands() == std::vector<Command>{{"PING"}});
    REQUIRE(h.link.barrier(passes("4"), h.now, h.now));
    CHECK(h.commands().empty());
    REQUIRE(h.feed("+PONG\r\n"));
    CHECK(h.log == std::vector<std::string>{"invalidated a", "1", "invalidated b", "2", "3"});
    REQUIRE(h.feed("+PONG\r\n"));
    CHECK(h.log.back() == "4");
    h.commands();
    CHECK(h.link.barrier(passes("5"), h.now, h.now));  // nothing is on its way any more
    CHECK(h.commands() == std::vector<Command>{{"PING"}});
  }
  SECTION("lost: each once, and the entries are unverified before") {
    h.log.clear();
    const std::uint32_t before = h.links.generation(h.row);
    bool dead = false;
    REQUIRE(h.link.barrier([&] { dead = !h.proves(before, h.now); }, h.now, h.now));
    h.lose();
    CHECK(h.log == std::vector<std::string>{"state 0 connection lost", "1", "2", "3"});
    CHECK(dead);
  }
  SECTION("one that asks again from inside its end") {
    bool again = false;
    REQUIRE(h.feed("+PONG\r\n"));
    REQUIRE(h.link.barrier([&] { REQUIRE(h.link.barrier([&] { again = true; }, h.now, h.now)); }, h.now, h.now));
    REQUIRE(h.feed("+PONG\r\n+PONG\r\n"));
    CHECK_FALSE(again);
    REQUIRE(h.feed("+PONG\r\n"));
    CHECK(again);
  }
}

TEST_CASE("a barrier's answer shows delivery of more than was heard when it was asked", "[fill_link]") {
  Harness h;
  h.serve();
  const std::int64_t heard = h.now;  // within the very same microsecond
  REQUIRE(h.link.barrier([] {}, heard, h.now));
  CHECK(h.links.delivered_us(h.row) <= heard);
  REQUIRE(h.feed("+PONG\r\n"));
  CHECK(h.links.delivered_us(h.row) > heard);
  REQUIRE(h.link.barrier([] {}, heard + 500, h.now));  // another thread's clock is a little ahead
  REQUIRE(h.feed("+PONG\r\n"));
  CHECK(h.links.delivered_us(h.row) > heard + 500);
}

TEST_CASE("delivery is of the newest answered request, never goes back and says nothing of who the node is", "[fill_link]") {
  Harness h;
  h.serve();
  const std::int64_t proven = h.links.proven_us(h.row);
  h.now += 1000;
  const std::int64_t first = h.now;
  REQUIRE(h.submit("a"));
  REQUIRE(h.link.barrier([] {}, h.now + 700, h.now));
  h.now += 100;
  REQUIRE(h.submit("b"));
  h.now += 1000;
  CHECK(h.links.delivered_us(h.row) == kStart);
  REQUIRE(h.feed(push_of("z")));  // a push answers nothing
  CHECK(h.links.delivered_us(h.row) == kStart);
  REQUIRE(h.feed(bulk("a")));
  CHECK(h.links.delivered_us(h.row) == first);
  REQUIRE(h.feed(":-1\r\n+PONG\r\n"));
  CHECK(h.links.delivered_us(h.row) == first + 701);
  REQUIRE(h.feed(bulk("b")));
  CHECK(h.links.delivered_us(h.row) == first + 701);
  CHECK(h.links.proven_us(h.row) == proven);
}

}  // namespace nearcached::tiers::coherence
