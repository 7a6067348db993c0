#include "tiers/upstream/identity.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <thread>

namespace nearcached::tiers::upstream {
namespace {

const Credentials kConfigured{"app", "secret"};

Credentials user(int n) { return {"user" + std::to_string(n), "pw"}; }

}  // namespace

TEST_CASE("one user with one password is one identity", "[identity]") {
  IdentityRegistry registry(10, kConfigured);
  const IdentityPtr alice = registry.obtain({"alice", "pw"});
  CHECK(registry.obtain({"alice", "pw"}) == alice);
  CHECK(registry.obtain(kConfigured) == registry.configured());
  CHECK(alice->credentials == Credentials{"alice", "pw"});
}

TEST_CASE("another password, or none, is another identity: one of them may be wrong", "[identity]") {
  IdentityRegistry registry(10, kConfigured);
  const IdentityPtr held[] = {registry.obtain({"alice", "pw"}),
                              registry.obtain({"alice", "other"}),
                              registry.obtain({"alice", ""}),
                              registry.obtain({"", "pw"}),
                              registry.obtain({"app", "wrong"}),
                              registry.obtain({"", ""}),
                              registry.configured()};
  std::set<std::uint32_t> ids;
  for (const IdentityPtr& identity : held) {
    REQUIRE(identity);
    ids.insert(identity->id);
  }
  CHECK(ids.size() == std::size(held));
}

TEST_CASE("a full registry drops the identity that no client is and that was used longest ago", "[identity]") {
  IdentityRegistry registry(4, kConfigured);  // the configured one and three more
  const IdentityPtr first = registry.obtain(user(1));
  const IdentityPtr second = registry.obtain(user(2));  // connections hold it still: that counts for nothing
  REQUIRE(registry.obtain(user(3)));
  CHECK(registry.obtain(user(1)) == first);  // used again: the second is the oldest now
  REQUIRE(registry.obtain(user(4)));
  CHECK(registry.obtain(user(1)) == first);
  const IdentityPtr again = registry.obtain(user(2));
  REQUIRE(again);
  CHECK(again->id != second->id);  // its old entries in L1 are nobody's
}

TEST_CASE("when clients are all of them there is no room, and those who are known still get theirs", "[identity]") {
  IdentityRegistry registry(3, kConfigured);
  const IdentityPtr one = registry.obtain(user(1));
  const IdentityPtr two = registry.obtain(user(2));
  ++one->clients;
  two->clients += 2;
  CHECK(registry.obtain(user(3)) == nullptr);
  CHECK(registry.obtain(user(1)) == one);
  CHECK(registry.obtain(kConfigured) == registry.configured());
  --two->clients;
  CHECK(registry.obtain(user(3)) == nullptr);
  --two->clients;
  const IdentityPtr three = registry.obtain(user(3));
  REQUIRE(three);
  CHECK(three->id != two->id);
  CHECK(registry.obtain(user(1)) == one);
}

TEST_CASE("no id is ever given twice", "[identity]") {
  IdentityRegistry registry(2, kConfigured);
  std::set<std::uint32_t> ids{registry.configured()->id};
  for (int i = 0; i < 100; ++i) CHECK(ids.insert(registry.obtain(user(i))->id).second);
}

TEST_CASE("threads that ask for one identity get the same", "[identity]") {
  IdentityRegistry registry(100, kConfigured);
  std::atomic<int> wrong{0};
  const IdentityPtr expected = registry.obtain(user(0));
  const auto ask = [&] {
    for (int i = 0; i < 2000; ++i) {
      if (registry.obtain(user(0)) != expected) ++wrong;
      if (registry.obtain(user(i % 50))->credentials != user(i % 50)) ++wrong;
    }
  };
  std::thread other(ask);
  ask();
  other.join();
  CHECK(wrong == 0);
}

}  // namespace nearcached::tiers::upstream
