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
  IdentityRegistry registry(10, kConfigured, 0);
  const IdentityPtr alice = registry.obtain({"alice", "pw"}, 0);
  CHECK(registry.obtain({"alice", "pw"}, 0) == alice);
  CHECK(registry.obtain(kConfigured, 0) == registry.configured());
  CHECK(alice->credentials == Credentials{"alice", "pw"});
}

TEST_CASE("another password, or none, is another identity: one of them may be wrong", "[identity]") {
  IdentityRegistry registry(10, kConfigured, 0);
  const IdentityPtr held[] = {registry.obtain({"alice", "pw"}, 0),
                              registry.obtain({"alice", "other"}, 0),
                              registry.obtain({"alice", ""}, 0),
                              registry.obtain({"", "pw"}, 0),
                              registry.obtain({"app", "wrong"}, 0),
                              registry.obtain({"", ""}, 0),
                              registry.configured()};
  std::set<std::uint32_t> ids;
  for (const IdentityPtr& identity : held) {
    REQUIRE(identity);
    ids.insert(identity->id);
  }
  CHECK(ids.size() == std::size(held));
}

TEST_CASE("each database of a user is an identity of its own, with that user's credentials", "[identity]") {
  IdentityRegistry registry(10, kConfigured, 5);
  CHECK(registry.configured()->database == 5);
  CHECK(registry.obtain(kConfigured, 5) == registry.configured());
  const IdentityPtr zero = registry.obtain(kConfigured, 0);
  const IdentityPtr alice_zero = registry.obtain({"alice", "pw"}, 0);
  const IdentityPtr alice_five = registry.obtain({"alice", "pw"}, 5);
  const std::set<std::uint32_t> ids{registry.configured()->id, zero->id, alice_zero->id, alice_five->id};
  CHECK(ids.size() == 4);
  CHECK(zero->credentials == kConfigured);
  CHECK(zero->database == 0);
  CHECK(alice_five->database == 5);
  CHECK(registry.obtain({"alice", "pw"}, 5) == alice_five);
}

TEST_CASE("asking whether an identity is known makes none and drives none out", "[identity]") {
  IdentityRegistry registry(2, kConfigured, 0);
  const IdentityPtr one = registry.obtain(user(1), 3);
  CHECK(registry.known(user(1), 4) == nullptr);
  CHECK(registry.known(user(2), 3) == nullptr);
  CHECK(registry.size() == 2);
  CHECK(registry.known(user(1), 3) == one);
  CHECK(registry.known(kConfigured, 0) == registry.configured());
  CHECK(registry.known(kConfigured, 1) == nullptr);
}

TEST_CASE("the databases of one user count against the limit as users do", "[identity]") {
  IdentityRegistry registry(3, kConfigured, 0);
  const IdentityPtr first = registry.obtain(kConfigured, 1);
  const IdentityPtr second = registry.obtain(kConfigured, 2);
  ++first->clients;
  ++second->clients;
  CHECK(registry.obtain(kConfigured, 3) == nullptr);
  --first->clients;
  CHECK(registry.obtain(kConfigured, 3) != nullptr);
  CHECK(registry.known(kConfigured, 1) == nullptr);
}

TEST_CASE("a full registry drops the identity that no client is and that was used longest ago", "[identity]") {
  IdentityRegistry registry(4, kConfigured, 0);  // the configured one and three more
  const IdentityPtr first = registry.obtain(user(1), 0);
  const IdentityPtr second = registry.obtain(user(2), 0);  // connections hold it still: that counts for nothing
  REQUIRE(registry.obtain(user(3), 0));
  CHECK(registry.obtain(user(1), 0) == first);  // used again: the second is the oldest now
  REQUIRE(registry.obtain(user(4), 0));
  CHECK(registry.obtain(user(1), 0) == first);
  const IdentityPtr again = registry.obtain(user(2), 0);
  REQUIRE(again);
  CHECK(again->id != second->id);  // its old entries in L1 are nobody's
}

TEST_CASE("when clients are all of them there is no room, and those who are known still get theirs", "[identity]") {
  IdentityRegistry registry(3, kConfigured, 0);
  const IdentityPtr one = registry.obtain(user(1), 0);
  const IdentityPtr two = registry.obtain(user(2), 0);
  ++one->clients;
  two->clients += 2;
  CHECK(registry.obtain(user(3), 0) == nullptr);
  CHECK(registry.obtain(user(1), 0) == one);
  CHECK(registry.obtain(kConfigured, 0) == registry.configured());
  --two->clients;
  CHECK(registry.obtain(user(3), 0) == nullptr);
  --two->clients;
  const IdentityPtr three = registry.obtain(user(3), 0);
  REQUIRE(three);
  CHECK(three->id != two->id);
  CHECK(registry.obtain(user(1), 0) == one);
}

TEST_CASE("no id is ever given twice", "[identity]") {
  IdentityRegistry registry(2, kConfigured, 0);
  std::set<std::uint32_t> ids{registry.configured()->id};
  for (int i = 0; i < 100; ++i) CHECK(ids.insert(registry.obtain(user(i), 0)->id).second);
}

TEST_CASE("threads that ask for one identity get the same", "[identity]") {
  IdentityRegistry registry(100, kConfigured, 0);
  std::atomic<int> wrong{0};
  const IdentityPtr expected = registry.obtain(user(0), 0);
  const auto ask = [&] {
    for (int i = 0; i < 2000; ++i) {
      if (registry.obtain(user(0), 0) != expected) ++wrong;
      if (registry.obtain(user(i % 50), 0)->credentials != user(i % 50)) ++wrong;
    }
  };
  std::thread other(ask);
  ask();
  other.join();
  CHECK(wrong == 0);
}

}  // namespace nearcached::tiers::upstream
