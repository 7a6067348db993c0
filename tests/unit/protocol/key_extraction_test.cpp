#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/command_table.hpp"

namespace nearcached::protocol {
namespace {

using Words = std::vector<std::string_view>;
using Positions = std::vector<std::uint32_t>;

Words split(std::string_view line) {
  Words words;
  for (std::size_t from = 0; from < line.size();) {
    const std::size_t end = std::min(line.find(' ', from), line.size());
    if (end > from) words.push_back(line.substr(from, end - from));
    from = end + 1;
  }
  for (std::string_view& word : words) {
    if (word == "''") word = {};
  }
  return words;
}

const Command& command_of(const Words& words) {
  const Command* command = find_command(words.at(0));
  REQUIRE(command != nullptr);
  if (!command->subcommands.empty() && words.size() > 1) {
    const Command* const subcommand = find_subcommand(*command, words[1]);
    if (subcommand != nullptr) command = subcommand;
  }
  return *command;
}

// The keys of a call written as one line ('' is an empty argument), joined by blanks; "unclear" where extract_keys says no.
std::string keys_of(std::string_view line) {
  const Words words = split(line);
  Positions positions{77};
  if (!extract_keys(command_of(words), words, positions)) {
    CHECK(positions.empty());
    return "unclear";
  }
  std::string keys;
  for (const std::uint32_t position : positions) {
    REQUIRE(position < words.size());
    if (!keys.empty()) keys += ' ';
    keys += words[position];
  }
  return keys;
}

Positions positions_of(std::string_view line) {
  const Words words = split(line);
  Positions positions;
  REQUIRE(extract_keys(command_of(words), words, positions));
  return positions;
}

bool own_connection(std::string_view line) {
  const Words words = split(line);
  return needs_own_connection(command_of(words), words);
}

}  // namespace

TEST_CASE("keys at fixed places are found by the triple") {
  CHECK(keys_of("GET k") == "k");
  CHECK(keys_of("SET k v EX 10") == "k");
  CHECK(keys_of("MSET a 1 b 2 c 3") == "a b c");
  CHECK(keys_of("MSETNX a 1") == "a");
  CHECK(keys_of("DEL a b a") == "a b a");
  CHECK(keys_of("BITOP AND d a b") == "d a b");
  CHECK(keys_of("COPY a b REPLACE") == "a b");
  CHECK(keys_of("LCS a b IDX") == "a b");
  CHECK(keys_of("RENAME a b") == "a b");
  CHECK(keys_of("SMOVE a b member") == "a b");
  CHECK(keys_of("BLPOP a b c 0") == "a b c");
  CHECK(keys_of("GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 km STOREDIST") == "d s");
  CHECK(keys_of("PFMERGE d a b") == "d a b");
  CHECK(keys_of("PFCOUNT a b") == "a b");
  CHECK(keys_of("SPUBLISH channel message") == "channel");
}

TEST_CASE("keys of subcommands are counted from the container's name") {
  CHECK(keys_of("OBJECT ENCODING k") == "k");
  CHECK(keys_of("object freq k") == "k");
  CHECK(keys_of("XGROUP CREATE s g $ MKSTREAM") == "s");
  CHECK(keys_of("XINFO STREAM s FULL") == "s");
  CHECK(keys_of("MEMORY USAGE k SAMPLES 5") == "k");
}

TEST_CASE("commands without keys have none, whatever follows") {
  CHECK(keys_of("PING") == "");
  CHECK(keys_of("PING k") == "");
  CHECK(keys_of("SCAN 0 MATCH k") == "");
  CHECK(keys_of("OBJECT HELP") == "");
  CHECK(keys_of("FLUSHALL ASYNC") == "");
}

TEST_CASE("keys that are counted among the arguments are found by their count") {
  CHECK(keys_of("EVAL script 2 a b x y") == "a b");
  CHECK(keys_of("EVALSHA sha 1 a") == "a");
  CHECK(keys_of("FCALL f 1 a x") == "a");
  CHECK(keys_of("EVAL_RO script 3 a b c") == "a b c");
  CHECK(keys_of("ZUNIONSTORE d 2 a b WEIGHTS 1 2") == "d a b");
  CHECK(keys_of("ZINTERSTORE d 1 a") == "d a");
  CHECK(keys_of("ZUNION 2 a b WITHSCORES") == "a b");
  CHECK(keys_of("ZDIFF 3 a b c") == "a b c");
  CHECK(keys_of("SINTERCARD 2 a b LIMIT 1") == "a b");
  CHECK(keys_of("LMPOP 2 a b LEFT COUNT 2") == "a b");
  CHECK(keys_of("BLMPOP 0 2 a b LEFT") == "a b");
  CHECK(keys_of("BZMPOP 1.5 1 a MIN") == "a");
}

TEST_CASE("a script or function may declare no keys; other counted commands need one") {
  CHECK(keys_of("EVAL script 0") == "");
  CHECK(keys_of("EVAL script 0 not a key") == "");
  CHECK(keys_of("EVALSHA_RO sha 0") == "");
  CHECK(keys_of("FCALL f 0 x") == "");
  CHECK(keys_of("ZUNION 0 a") == "unclear");
  CHECK(keys_of("LMPOP 0 a LEFT") == "unclear");
  CHECK(keys_of("ZUNIONSTORE d 0 a") == "unclear");
}

TEST_CASE("a count that is no number in Redis's form, or larger than what follows, is unclear") {
  for (const std::string_view count :
       {"x", "-1", "+1", "01", "1.0", "1x", "-0", "3", "99999999999", "9223372036854775807", "9223372036854775808",
        "18446744073709551617", "4294967297", "-9223372036854775808", "''"}) {
    INFO(count);
    const std::string number(count);
    CHECK(keys_of("EVAL script " + number + " a b") == "unclear");
    CHECK(keys_of("ZUNIONSTORE d " + number + " a b") == "unclear");
    CHECK(keys_of("LMPOP " + number + " a b") == "unclear");
  }
  CHECK(keys_of("EVAL script 2 a b") == "a b");
}

TEST_CASE("GEORADIUS reports where it stores") {
  CHECK(keys_of("GEORADIUS k 15 37 200 km") == "k");
  CHECK(keys_of("GEORADIUS k 15 37 200 km WITHDIST COUNT 3 ASC") == "k");
  CHECK(keys_of("GEORADIUS k 15 37 200 km STORE d") == "k d");
  CHECK(keys_of("GEORADIUS k 15 37 200 km COUNT 3 storedist d") == "k d");
  CHECK(keys_of("GEORADIUSBYMEMBER k m 200 km STORE d") == "k d");
  CHECK(keys_of("GEORADIUSBYMEMBER k store 200 km") == "k");
  CHECK(keys_of("GEORADIUS k 15 37 200 km STORE") == "k");
  CHECK(keys_of("GEORADIUS k 15 37 200 km STORE a STOREDIST b") == "k a b");
}

TEST_CASE("SORT reports its destination, wherever STORE stands, and not what its patterns name") {
  CHECK(keys_of("SORT k") == "k");
  CHECK(keys_of("SORT k BY w_* GET # GET d_* LIMIT 0 10 DESC ALPHA") == "k");
  CHECK(keys_of("SORT k STORE d") == "k d");
  CHECK(keys_of("sort k store d by w_* limit 0 5") == "k d");
  CHECK(keys_of("SORT k BY store GET store LIMIT store store STORE d") == "k d");
  CHECK(keys_of("SORT k STORE a STORE b") == "k b");
  CHECK(keys_of("SORT k STORE store ASC") == "k store");
  CHECK(keys_of("SORT k STORE") == "k");
  CHECK(keys_of("SORT k LIMIT 0") == "k");
  CHECK(keys_of("SORT_RO k BY w_* GET d_*") == "k");
}

TEST_CASE("MIGRATE's keys are its key argument, or what follows KEYS where that is empty") {
  CHECK(keys_of("MIGRATE h 6379 k 0 100") == "k");
  CHECK(keys_of("MIGRATE h 6379 k 0 100 COPY REPLACE") == "k");
  CHECK(keys_of("MIGRATE h 6379 '' 0 100 KEYS a b c") == "a b c");
  CHECK(keys_of("MIGRATE h 6379 '' 0 100 REPLACE AUTH keys KEYS a") == "a");
  CHECK(keys_of("MIGRATE h 6379 '' 0 100 AUTH2 keys keys KEYS a b") == "a b");
  CHECK(keys_of("MIGRATE h 6379 '' 0 100 AUTH auth2 KEYS a b") == "a b");
  CHECK(keys_of("MIGRATE h 6379 k 0 100 AUTH keys") == "k");
  CHECK(keys_of("MIGRATE h 6379 k 0 100 AUTH") == "k");
  CHECK(keys_of("MIGRATE h 6379 k 0 100 KEYS a") == "unclear");
  CHECK(keys_of("MIGRATE h 6379 k 0 100 KEYS") == "unclear");
  CHECK(positions_of("MIGRATE h 6379 '' 0 100 KEYS") == Positions{3});
  CHECK(keys_of("MIGRATE h 6379 k 0") == "unclear");
}

TEST_CASE("the streams of XREAD and XREADGROUP are the first half behind STREAMS") {
  CHECK(keys_of("XREAD STREAMS a 0") == "a");
  CHECK(keys_of("XREAD COUNT 2 STREAMS a b 0 0") == "a b");
  CHECK(keys_of("xread block 0 count 1 streams a b c $ $ $") == "a b c");
  CHECK(keys_of("XREADGROUP GROUP g c STREAMS a >") == "a");
  CHECK(keys_of("XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a b > >") == "a b");
  CHECK(keys_of("XREADGROUP GROUP streams streams STREAMS a >") == "a");
  CHECK(keys_of("XREADGROUP COUNT 1 GROUP g streams STREAMS a >") == "a");
  CHECK(keys_of("XREAD STREAMS streams 0") == "streams");
}

TEST_CASE("unbalanced or misspelt streams are unclear") {
  CHECK(keys_of("XREAD STREAMS a b 0") == "unclear");
  CHECK(keys_of("XREAD STREAMS") == "unclear");
  CHECK(keys_of("XREAD STREAMS a") == "unclear");
  CHECK(keys_of("XREAD COUNT 1 a b") == "unclear");
  CHECK(keys_of("XREAD COUNT STREAMS a 0") == "unclear");
  CHECK(keys_of("XREAD BOGUS STREAMS a 0") == "unclear");
  CHECK(keys_of("XREADGROUP GROUP g STREAMS a >") == "unclear");
}

TEST_CASE("a stream read needs a connection of its own only with BLOCK") {
  CHECK(own_connection("XREAD BLOCK 0 STREAMS a $"));
  CHECK(own_connection("xread count 5 block 100 streams a $"));
  CHECK(own_connection("XREADGROUP GROUP g c BLOCK 0 STREAMS a >"));
  CHECK(own_connection("XREADGROUP NOACK BLOCK 0 GROUP g c STREAMS a >"));
  CHECK_FALSE(own_connection("XREAD STREAMS a 0"));
  CHECK_FALSE(own_connection("XREAD COUNT 5 STREAMS a 0"));
  CHECK_FALSE(own_connection("XREAD STREAMS block 0"));
  CHECK_FALSE(own_connection("XREADGROUP GROUP block block STREAMS a >"));
  CHECK_FALSE(own_connection("XREADGROUP GROUP g c STREAMS block >"));
  CHECK_FALSE(own_connection("GET block"));
  CHECK_FALSE(own_connection("XADD s * block 0"));
  CHECK(own_connection("BLPOP a 0"));
  CHECK(own_connection("BLMOVE a b LEFT RIGHT 0"));
}

TEST_CASE("keys that a command may do without are none when left out") {
  CHECK(keys_of("SUNSUBSCRIBE") == "");
  CHECK(keys_of("SUNSUBSCRIBE a b") == "a b");
  CHECK(keys_of("PFMERGE d") == "d");
}

TEST_CASE("too few arguments are unclear, never read past") {
  CHECK(keys_of("GET") == "unclear");
  CHECK(keys_of("RENAME a") == "unclear");
  CHECK(keys_of("BITOP AND") == "unclear");
  CHECK(keys_of("BLPOP 0") == "unclear");
  CHECK(keys_of("EVAL") == "unclear");
  CHECK(keys_of("EVAL script") == "unclear");
  CHECK(keys_of("SORT") == "unclear");
  CHECK(keys_of("XREAD") == "unclear");
  CHECK(keys_of("ZUNIONSTORE d") == "unclear");
  CHECK(keys_of("OBJECT ENCODING") == "unclear");
  for (const Command& command : all_commands()) {
    Positions positions;
    const bool clear = extract_keys(command, {}, positions);
    INFO(command.name);
    CHECK(positions.empty());
    if (command.first_key != 0 || command.has(kFlagMovableKeys)) CHECK_FALSE(clear);
    CHECK(needs_own_connection(command, {}) == (command.handling == Handling::kPinned));
  }
}

TEST_CASE("positions are cleared first, whatever the outcome, and keep their memory") {
  Positions positions;
  positions.reserve(100);
  const std::uint32_t* const memory = positions.data();
  positions.assign(50, 9);
  const Words good{"GET", "k"};
  REQUIRE(extract_keys(*find_command("get"), good, positions));
  CHECK(positions == Positions{1});
  positions.assign(50, 9);
  const Words bad{"ZUNIONSTORE", "d", "5", "a"};
  REQUIRE_FALSE(extract_keys(*find_command("zunionstore"), bad, positions));
  CHECK(positions.empty());
  CHECK(positions.data() == memory);
}

TEST_CASE("random arguments give positions inside the call, never the name's, and no more than the arguments allow") {
  constexpr std::string_view kVocabulary[] = {"STORE",
                                              "storedist",
                                              "STREAMS",
                                              "keys",
                                              "BLOCK",
                                              "COUNT",
                                              "GROUP",
                                              "limit",
                                              "by",
                                              "get",
                                              "auth",
                                              "auth2",
                                              "0",
                                              "1",
                                              "2",
                                              "3",
                                              "-1",
                                              "7",
                                              "",
                                              "k",
                                              "noack",
                                              "99999999999999999999",
                                              "9223372036854775807"};
  std::mt19937 random(2024);
  Positions positions;
  const auto check = [&](const Command& command) {
    for (int round = 0; round < 200; ++round) {
      const std::size_t count = random() % 14;
      const auto words = std::make_unique<std::string_view[]>(count);  // exact, so that the sanitizer sees an overrun
      for (std::size_t i = 0; i < count; ++i) words[i] = kVocabulary[random() % std::size(kVocabulary)];
      const std::span<const std::string_view> args(words.get(), count);
      const bool clear = extract_keys(command, args, positions);
      const bool inside = std::all_of(positions.begin(), positions.end(), [&](auto at) { return at >= 1 && at < count; });
      const bool bounded = positions.size() <= count * std::max<std::size_t>(1, command.key_specs.size());
      if (!inside || !bounded || (!clear && !positions.empty())) FAIL_CHECK(command.name);
      if (needs_own_connection(command, args) && command.handling != Handling::kPinned)
        CHECK(command.has(kFlagBlocksByOption));
    }
  };
  for (const Command& command : all_commands()) {
    check(command);
    for (const Command& subcommand : command.subcommands) check(subcommand);
  }
}

TEST_CASE("a key specification is followed as Redis documents it") {
  Command command;
  command.flags = kFlagMovableKeys;
  KeySpec spec;
  command.key_specs = {&spec, 1};
  const Words words{"x", "a", "KEY", "b", "c", "d", "key", "e"};
  Positions positions;

  SECTION("a keyword searched forwards gives the first, backwards the last") {
    spec = {.begin = KeySpec::Begin::kKeyword, .find = KeySpec::Find::kRange, .index = 1, .keyword = "key"};
    REQUIRE(extract_keys(command, words, positions));
    CHECK(positions == Positions{3});
    spec.index = -1;
    REQUIRE(extract_keys(command, words, positions));
    CHECK(positions == Positions{7});
    spec.index = -3;
    REQUIRE(extract_keys(command, words, positions));
    CHECK(positions == Positions{3});
  }
  SECTION("an absent keyword means no keys of this specification") {
    spec = {.begin = KeySpec::Begin::kKeyword, .find = KeySpec::Find::kRange, .index = 1, .keyword = "other"};
    CHECK(extract_keys(command, words, positions));
    CHECK(positions.empty());
  }
  SECTION("a keyword as the last argument names no key") {
    spec = {.begin = KeySpec::Begin::kKeyword, .find = KeySpec::Find::kRange, .index = 1, .keyword = "e"};
    CHECK(extract_keys(command, words, positions));
    CHECK(positions.empty());
  }
  SECTION("a range with last, step and limit") {
    spec = {.begin = KeySpec::Begin::kIndex, .find = KeySpec::Find::kRange, .index = 1, .last_key = -2, .step = 2};
    REQUIRE(extract_keys(command, words, positions));
    CHECK(positions == Positions{1, 3, 5});
    spec = {.begin = KeySpec::Begin::kIndex, .find = KeySpec::Find::kRange, .index = 2, .last_key = -1, .limit = 3};
    REQUIRE(extract_keys(command, words, positions));
    CHECK(positions == Positions{2, 3});
  }
  SECTION("a count with a step") {
    spec = {.begin = KeySpec::Begin::kIndex, .find = KeySpec::Find::kKeynum, .index = 1, .step = 2, .first_key = 1};
    const Words counted{"x", "2", "a", "1", "b", "2"};
    REQUIRE(extract_keys(command, counted, positions));
    CHECK(positions == Positions{2, 4});
  }
  SECTION("unknown, incomplete or senseless specifications are unclear") {
    spec = {};
    CHECK_FALSE(extract_keys(command, words, positions));
    spec = {.begin = KeySpec::Begin::kIndex, .find = KeySpec::Find::kRange, .index = 1, .incomplete = true};
    CHECK_FALSE(extract_keys(command, words, positions));
    spec = {.begin = KeySpec::Begin::kIndex, .find = KeySpec::Find::kRange, .index = 1, .last_key = -1, .step = 0};
    CHECK_FALSE(extract_keys(command, words, positions));
    constexpr std::int16_t kFar = std::numeric_limits<std::int16_t>::max();
    spec = {.begin = KeySpec::Begin::kIndex, .find = KeySpec::Find::kKeynum, .index = kFar, .keynum_index = kFar};
    CHECK_FALSE(extract_keys(command, words, positions));
    spec = {.begin = KeySpec::Begin::kIndex, .find = KeySpec::Find::kKeynum, .index = -5, .keynum_index = -5};
    CHECK_FALSE(extract_keys(command, words, positions));
  }
}

TEST_CASE("an unlisted command's keys are those of its triple, unclear where it says only that there are some") {
  const DynamicCommand json("json.mget", -3, {"readonly"}, 1, -2, 1);
  const Words words{"JSON.MGET", "a", "b", "$"};
  Positions positions;
  REQUIRE(extract_keys(json.command(), words, positions));
  CHECK(positions == Positions{1, 2});

  const DynamicCommand movable("mod.movable", -2, {"write", "movablekeys"}, 0, 0, 0);
  CHECK_FALSE(extract_keys(movable.command(), words, positions));
  const DynamicCommand broken("mod.broken", -2, {"write"}, 1, -1, 0);
  CHECK_FALSE(extract_keys(broken.command(), words, positions));
}

}  // namespace nearcached::protocol
