#include "tiers/policies.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <iterator>
#include <memory>
#include <random>
#include <set>

namespace nearcached::tiers {
namespace {

Policy named(std::string prefix) {
  Policy policy;
  policy.prefix = std::move(prefix);
  return policy;
}

Policies of_prefixes(const std::vector<std::string>& prefixes) {
  std::vector<Policy> namespaces;
  for (const std::string& prefix : prefixes) namespaces.push_back(named(prefix));
  return Policies(Policy{}, std::move(namespaces));
}

// What of() promises, without any order: the longest of all prefixes that the key begins with.
std::string naive(const std::vector<std::string>& prefixes, std::string_view key) {
  std::string longest;
  for (const std::string& prefix : prefixes) {
    if (key.starts_with(prefix) && prefix.size() > longest.size()) longest = prefix;
  }
  return longest;
}

std::string random_text(std::mt19937& random, std::string_view alphabet, std::size_t length_min, std::size_t length_max) {
  std::string text(length_min + random() % (length_max - length_min + 1), '\0');
  for (char& c : text) c = alphabet[random() % alphabet.size()];
  return text;
}

TEST_CASE("without namespaces every key has the default policy") {
  Policy otherwise;
  otherwise.consistency = Consistency::kStaleOk;
  const Policies policies(otherwise);
  for (const std::string_view key : {"", "a", "user:1"}) {
    CHECK(&policies.of(key) == &policies.otherwise());
    CHECK(policies.of(key).consistency == Consistency::kStaleOk);
  }
}

TEST_CASE("a key has the policy of its prefix, and one that only sorts beside it the default") {
  const Policies policies = of_prefixes({"user:", "cart:"});
  CHECK(policies.of("user:1").prefix == "user:");
  CHECK(policies.of("user:").prefix == "user:");
  CHECK(policies.of("cart:\xff").prefix == "cart:");
  for (const std::string_view key : {"", "u", "user", "user;", "user9", "a", "cart", "d", "z", "xuser:1"}) {
    CAPTURE(key);
    CHECK(&policies.of(key) == &policies.otherwise());
  }
}

TEST_CASE("of nested prefixes the longest wins, in whatever order they are given") {
  std::vector<std::string> prefixes{"a", "a:b", "a:b:c:d", "a:z", "b"};
  std::sort(prefixes.begin(), prefixes.end());
  do {
    const Policies policies = of_prefixes(prefixes);
    CHECK(policies.of("a").prefix == "a");
    CHECK(policies.of("a:").prefix == "a");
    CHECK(policies.of("a:b").prefix == "a:b");
    CHECK(policies.of("a:b:c:c").prefix == "a:b");
    CHECK(policies.of("a:b:c:d").prefix == "a:b:c:d");
    CHECK(policies.of("a:b:c:e").prefix == "a:b");
    CHECK(policies.of("a:c").prefix == "a");
    CHECK(policies.of("a:zz").prefix == "a:z");
    CHECK(policies.of("b").prefix == "b");
    CHECK(policies.of("c").prefix.empty());
  } while (std::next_permutation(prefixes.begin(), prefixes.end()));
}

TEST_CASE("a key behind many nested and foreign prefixes still falls back to the one that holds it") {
  // All but the first sort between "k" and the key, and none of them is a prefix of it.
  const Policies policies = of_prefixes({"k", "k1", "k11", "k111", "k2", "k22", "k222x"});
  CHECK(policies.of("k3").prefix == "k");
  CHECK(policies.of("k222y").prefix == "k22");
  CHECK(policies.of("k1111").prefix == "k111");
  CHECK(policies.of("k12").prefix == "k1");
}

TEST_CASE("prefixes are bytes: zero, high and control bytes compare unsigned") {
  const std::string zero("\0", 1);
  const Policies policies = of_prefixes({zero, zero + zero, "\x7f", "\x80", "\xff", "\xff\xff", "a" + zero});
  CHECK(policies.of(zero).prefix == zero);
  CHECK(policies.of(zero + "\x01").prefix == zero);
  CHECK(policies.of(zero + zero + "x").prefix == zero + zero);
  CHECK(policies.of("\x7f\xff").prefix == "\x7f");
  CHECK(policies.of("\x80").prefix == "\x80");
  CHECK(policies.of("\x81").prefix.empty());
  CHECK(policies.of("\xff\xfe").prefix == "\xff");
  CHECK(policies.of("\xff\xff\xff").prefix == "\xff\xff");
  CHECK(policies.of("a").prefix.empty());
  CHECK(policies.of("a" + zero + "b").prefix == "a" + zero);
}

TEST_CASE("every key up to five letters, under every set of prefixes up to three letters of two") {
  // 14 names of one to three letters, so 2^14 sets; each is asked for all 63 keys.
  std::vector<std::string> names;
  std::vector<std::string> keys{""};
  for (std::size_t i = 0; i < keys.size() && keys[i].size() < 5; ++i) {
    for (const char c : {'a', 'b'}) keys.push_back(keys[i] + c);
  }
  for (const std::string& key : keys) {
    if (!key.empty() && key.size() <= 3) names.push_back(key);
  }
  REQUIRE(names.size() == 14);
  REQUIRE(keys.size() == 63);
  std::size_t wrong = 0;
  for (std::size_t set = 0; set < std::size_t{1} << names.size(); ++set) {
    std::vector<std::string> prefixes;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if ((set >> i & 1) != 0) prefixes.push_back(names[i]);
    }
    const Policies policies = of_prefixes(prefixes);
    for (const std::string& key : keys) wrong += policies.of(key).prefix == naive(prefixes, key) ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("random prefixes and keys agree with a search of all prefixes") {
  std::mt19937 random(3);
  const std::string_view alphabets[] = {"ab", "ab:", std::string_view("\x00\x01\x7f\x80\xff", 5), "abcdefghij:"};
  std::size_t wrong = 0;
  for (int round = 0; round < 400; ++round) {
    const std::string_view alphabet = alphabets[static_cast<std::size_t>(round) % std::size(alphabets)];
    std::set<std::string> distinct;
    for (std::size_t i = random() % 60; i > 0; --i) distinct.insert(random_text(random, alphabet, 1, 8));
    std::vector<std::string> prefixes(distinct.begin(), distinct.end());
    std::shuffle(prefixes.begin(), prefixes.end(), random);
    const Policies policies = of_prefixes(prefixes);
    for (int i = 0; i < 200; ++i) {
      std::string key = random_text(random, alphabet, 0, 10);
      // Half of the keys begin with one of the prefixes.
      if (i % 2 == 0 && !prefixes.empty()) key.insert(0, prefixes[random() % prefixes.size()]);
      wrong += policies.of(key).prefix == naive(prefixes, key) ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("as many namespaces as are allowed, each inside the one before") {
  std::vector<std::string> prefixes;
  for (std::size_t length = 1; length <= Policies::kNamespacesMax; ++length) prefixes.emplace_back(length, 'a');
  const Policies policies = of_prefixes(prefixes);
  CHECK(policies.of(std::string(5000, 'a')).prefix.size() == Policies::kNamespacesMax);
  CHECK(policies.of(std::string(700, 'a')).prefix.size() == 700);
  CHECK(policies.of(std::string(700, 'a') + "b").prefix.size() == 700);
  CHECK(policies.of("b").prefix.empty());
}

TEST_CASE("a copy answers from its own policies, also when the original is gone") {
  auto original = std::make_unique<Policies>(of_prefixes({"a", "ab"}));
  const Policies copy = *original;
  original.reset();
  CHECK(copy.of("abc").prefix == "ab");
  CHECK(&copy.of("abc") == &copy.namespaces()[1]);
  CHECK(&copy.of("x") == &copy.otherwise());
}

TEST_CASE("links are proven as often as the most demanding policy needs, whichever it is") {
  Policy otherwise;
  otherwise.max_staleness_us = 1'000'000;
  Policy tight = named("t");
  tight.max_staleness_us = 30'000;
  Policy loose = named("l");
  loose.max_staleness_us = 60'000'000;
  CHECK(Policies(otherwise).max_staleness_min_us() == 1'000'000);
  CHECK(Policies(otherwise, {loose}).max_staleness_min_us() == 1'000'000);
  CHECK(Policies(otherwise, {loose, tight}).max_staleness_min_us() == 30'000);
  CHECK(Policies(tight, {loose}).max_staleness_min_us() == 30'000);
}

TEST_CASE("whether any policy is causal, the default or a namespace") {
  Policy causal = named("c");
  causal.consistency = Consistency::kCausal;
  CHECK_FALSE(Policies(Policy{}, {named("a")}).any_causal());
  CHECK(Policies(Policy{}, {named("a"), causal}).any_causal());
  causal.prefix.clear();
  CHECK(Policies(causal).any_causal());
}

}  // namespace
}  // namespace nearcached::tiers
