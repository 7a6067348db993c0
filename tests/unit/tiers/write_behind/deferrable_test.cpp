#include "tiers/write_behind/deferrable.hpp"

#include <catch2/catch.hpp>
#include <string>

namespace nearcached::tiers::write_behind {
namespace {

constexpr std::int64_t kNow = 1'700'000'000'000;

std::vector<DeferrableWrite> writes_of(const std::vector<std::string_view>& args) {
  return deferrable_writes(args[0], args, kNow);
}

// "key=value@deadline" of each.
std::string text(const std::vector<std::string_view>& args) {
  std::string text;
  for (const DeferrableWrite& one : writes_of(args)) {
    if (!text.empty()) text += ' ';
    text.append(one.key).append("=").append(one.write->value).append("@" + std::to_string(one.write->expires_at_ms));
    CHECK(one.write->kind == Write::Kind::kSet);
  }
  return text;
}

TEST_CASE("plain sets are deferrable, their deadlines made absolute", "[deferrable]") {
  CHECK(text({"set", "k", "v"}) == "k=v@0");
  CHECK(text({"set", "k", "v", "EX", "10"}) == "k=v@1700000010000");
  CHECK(text({"set", "k", "v", "px", "10"}) == "k=v@1700000000010");
  CHECK(text({"set", "k", "v", "eXaT", "1800000000"}) == "k=v@1800000000000");
  CHECK(text({"set", "k", "v", "PXAT", "1"}) == "k=v@1");
  CHECK(text({"setex", "k", "10", "v"}) == "k=v@1700000010000");
  CHECK(text({"psetex", "k", "10", "v"}) == "k=v@1700000000010");
  CHECK(text({"mset", "a", "1", "b", "2", "a", "3"}) == "a=1@0 b=2@0 a=3@0");
  CHECK(text({"set", "", ""}) == "=@0");
}

TEST_CASE("what needs to know the old value, or would be refused, is not", "[deferrable]") {
  for (const std::vector<std::string_view>& args : std::vector<std::vector<std::string_view>>{
           {"set", "k", "v", "NX"},
           {"set", "k", "v", "XX"},
           {"set", "k", "v", "GET"},
           {"set", "k", "v", "KEEPTTL"},
           {"set", "k", "v", "EX", "10", "NX"},
           {"set", "k", "v", "EX", "10", "PX", "10"},
           {"set", "k", "v", "EX"},
           {"set", "k", "v", "NX", "EX", "10"},
           {"set", "k"},
           {"setnx", "k", "v"},
           {"getset", "k", "v"},
           {"append", "k", "v"},
           {"incr", "k"},
           {"setex", "k", "10"},
           {"setex", "k", "10", "v", "x"},
           {"mset", "a"},
           {"mset", "a", "1", "b"},
           {"mset"},
           {"msetnx", "a", "1"},
           {"del", "a"},
       }) {
    CAPTURE(args[0], args.size());
    CHECK(writes_of(args).empty());
  }
}

TEST_CASE("a time that Redis would refuse is left to it", "[deferrable]") {
  for (const std::string_view number :
       {"0", "-1", "+1", "01", " 1", "1 ", "", "x", "1.5", "9223372036854775808", "-9223372036854775808"}) {
    CAPTURE(number);
    for (const std::string_view option : {"EX", "PX", "EXAT", "PXAT"}) {
      CHECK(writes_of({"set", "k", "v", option, number}).empty());
    }
    CHECK(writes_of({"setex", "k", number, "v"}).empty());
    CHECK(writes_of({"psetex", "k", number, "v"}).empty());
  }
  CHECK(writes_of({"set", "k", "v", "EX", "9223372036854776"}).empty());
  CHECK(writes_of({"set", "k", "v", "EXAT", "9223372036854776"}).empty());
  CHECK(writes_of({"set", "k", "v", "EX", "9223372036854775"}).empty());
  CHECK(writes_of({"set", "k", "v", "PX", "9223372036854775807"}).empty());
  CHECK(text({"set", "k", "v", "PXAT", "9223372036854775807"}) == "k=v@9223372036854775807");
  CHECK(text({"set", "k", "v", "EXAT", "9223372036854775"}) == "k=v@9223372036854775000");
  CHECK(text({"set", "k", "v", "PX", "9223370336854775807"}) == "k=v@9223372036854775807");
}

// "VALUE@DEADLINE answer", "gone answer", "- answer"; "" if it is not said.
std::string dependent(const std::vector<std::string_view>& args, const KnownKey& known) {
  const auto change = dependent_write(args[0], args, known, kNow);
  if (!change) return {};
  std::string text = "-";
  if (change->write && change->write->kind == Write::Kind::kDelete) text = "gone";
  if (change->write && change->write->kind == Write::Kind::kSet) {
    text = change->write->value + "@" + std::to_string(change->write->expires_at_ms);
  }
  return text + " " + (change->number ? std::to_string(*change->number) : "OK");
}

TEST_CASE("what a command does to a pending key is known", "[deferrable]") {
  const Write there{Write::Kind::kSet, "v", kNow + 5};
  const Write gone{Write::Kind::kDelete, {}, 0};
  const KnownKey is{&there, true};
  const KnownKey is_not{&gone, false};
  CHECK(dependent({"del", "k"}, is) == "gone 1");
  CHECK(dependent({"unlink", "k"}, is) == "gone 1");
  CHECK(dependent({"del", "k"}, is_not) == "- 0");
  CHECK(dependent({"expire", "k", "10"}, is) == "v@1700000010000 1");
  CHECK(dependent({"pexpire", "k", "10"}, is) == "v@1700000000010 1");
  CHECK(dependent({"expireat", "k", "1800000000"}, is) == "v@1800000000000 1");
  CHECK(dependent({"pexpireat", "k", "1700000000001"}, is) == "v@1700000000001 1");
  CHECK(dependent({"expire", "k", "10"}, is_not) == "- 0");
  CHECK(dependent({"set", "k", "w", "KeepTTL"}, is) == "w@1700000000005 OK");
  CHECK(dependent({"set", "k", "w", "keepttl"}, is_not) == "w@0 OK");
  // A deadline that has passed deletes.
  for (const char* past : {"0", "-1", "-9223372036854775"}) CHECK(dependent({"expire", "k", past}, is) == "gone 1");
  CHECK(dependent({"pexpireat", "k", "1700000000000"}, is) == "gone 1");
}

TEST_CASE("of a key that only L1 knows, a delete is known and nothing else", "[deferrable]") {
  CHECK(dependent({"del", "k"}, {nullptr, true}) == "gone 1");
  CHECK(dependent({"unlink", "k"}, {nullptr, false}) == "gone 0");
  CHECK(dependent({"expire", "k", "10"}, {nullptr, true}).empty());
  CHECK(dependent({"set", "k", "w", "keepttl"}, {nullptr, true}).empty());
}

TEST_CASE("what Redis would refuse, and what has options, is the upstream's to say", "[deferrable]") {
  const Write there{Write::Kind::kSet, "v", 0};
  for (const std::vector<std::string_view>& args :
       std::vector<std::vector<std::string_view>>{{"del", "a", "b"},
                                                  {"del"},
                                                  {"expire", "k"},
                                                  {"expire", "k", "x"},
                                                  {"expire", "k", "10", "NX"},
                                                  {"expire", "k", "9223372036854775807"},
                                                  {"expire", "k", "-9223372036854775807"},
                                                  {"pexpire", "k", "9223372036854775807"},
                                                  {"persist", "k"},
                                                  {"getdel", "k"},
                                                  {"set", "k", "v"},
                                                  {"set", "k", "v", "NX"},
                                                  {"set", "k", "v", "KEEPTTL", "GET"}}) {
    INFO(args[0] << " with " << args.size() << " words");
    CHECK(dependent(args, {&there, true}).empty());
  }
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
