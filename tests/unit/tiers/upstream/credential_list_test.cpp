#include "tiers/upstream/credential_list.hpp"

#include <algorithm>
#include <catch2/catch.hpp>

namespace nearcached::tiers::upstream {
namespace {

const Credentials kConfigured{"", "secret"};
const Credentials kAda{"ada", "a"};
const Credentials kBob{"bob", "b"};

}  // namespace

TEST_CASE("without configured credentials the first attempt sends no AUTH", "[credential_list]") {
  CredentialList list({});
  CHECK(list.attempts() == std::vector<Credentials>{{}});
  CHECK(list.learn(kAda));
  CHECK(list.attempts() == std::vector<Credentials>{{}, kAda});
}

TEST_CASE("configured credentials come first, learned ones newest first", "[credential_list]") {
  CredentialList list(kConfigured);
  CHECK(list.learn(kAda));
  CHECK(list.learn(kBob));
  CHECK_FALSE(list.learn(kAda));
  CHECK_FALSE(list.learn(kConfigured));
  CHECK_FALSE(list.learn({}));
  CHECK(list.attempts() == std::vector<Credentials>{kConfigured, kBob, kAda});
}

TEST_CASE("what worked is tried first from then on", "[credential_list]") {
  CredentialList list(kConfigured);
  list.learn(kAda);
  list.worked(kAda);
  list.learn(kBob);
  CHECK(list.attempts() == std::vector<Credentials>{kAda, kConfigured, kBob});
  list.worked({"nobody", "x"});
  CHECK(list.attempts().front() == kAda);
}

TEST_CASE("the oldest learned credentials are forgotten, but not those in use", "[credential_list]") {
  CredentialList list(kConfigured);
  list.learn(kAda);
  list.worked(kAda);
  for (std::size_t i = 0; i < CredentialList::kLearnedMax + 3; ++i) list.learn({"user" + std::to_string(i), "p"});
  const auto attempts = list.attempts();
  CHECK(attempts.size() == CredentialList::kLearnedMax + 1);
  CHECK(attempts[0] == kAda);
  CHECK(attempts[1] == kConfigured);
  CHECK(attempts[2] == Credentials{"user10", "p"});
  CHECK(std::ranges::find(attempts, Credentials{"user3", "p"}) == attempts.end());
}

TEST_CASE("a refusal is news once, and again after the credentials have worked", "[credential_list]") {
  CredentialList list(kConfigured);
  CHECK(list.refused(kConfigured, "WRONGPASS x"));
  CHECK_FALSE(list.refused(kConfigured, "WRONGPASS x"));
  CHECK(list.refused(kConfigured, "NOPERM y"));
  list.worked(kConfigured);
  CHECK(list.refused(kConfigured, "NOPERM y"));
  CHECK_FALSE(list.refused(kAda, "NOPERM y"));
}

TEST_CASE("AUTH has one argument without a user and two with one", "[credential_list]") {
  CHECK(auth_command(kConfigured) == std::vector<std::string>{"AUTH", "secret"});
  CHECK(auth_command(kAda) == std::vector<std::string>{"AUTH", "ada", "a"});
  CHECK(auth_command({"ada", ""}) == std::vector<std::string>{"AUTH", "ada", ""});
  CHECK(auth_command({}) == std::vector<std::string>{"AUTH", ""});
}

TEST_CASE("only errors about identity call for other credentials", "[credential_list]") {
  CHECK(is_auth_error("NOAUTH"));
  CHECK(is_auth_error("WRONGPASS"));
  CHECK(is_auth_error("NOPERM"));
  CHECK_FALSE(is_auth_error("ERR"));
  CHECK_FALSE(is_auth_error(""));
  CHECK_FALSE(is_auth_error("LOADING"));
}

}  // namespace nearcached::tiers::upstream
