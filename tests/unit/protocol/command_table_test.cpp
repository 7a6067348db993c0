#include "protocol/command_table.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cctype>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::protocol {
namespace {

const Command& command_named(std::string_view name) {
  const std::size_t bar = name.find('|');
  const Command* command = find_command(name.substr(0, bar));
  if (command != nullptr && bar != std::string_view::npos) command = find_subcommand(*command, name.substr(bar + 1));
  INFO("command " << name);
  REQUIRE(command != nullptr);
  return *command;
}

std::string mixed_case(std::string_view name, std::mt19937& random) {
  std::string text(name);
  for (char& c : text) {
    if (random() % 2 != 0) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return text;
}

// A copy on the heap of exactly the name's size, so that the address sanitizer sees a read of one byte too many.
const Command* find_in_exact_memory(std::string_view name) {
  const auto copy = std::make_unique<char[]>(name.size());
  std::copy(name.begin(), name.end(), copy.get());
  return find_command({copy.get(), name.size()});
}

std::vector<std::string_view> names_handled(Handling handling) {
  std::vector<std::string_view> names;
  for (const Command& command : all_commands()) {
    if (command.handling == handling) names.push_back(command.name);
    for (const Command& subcommand : command.subcommands) {
      if (subcommand.handling == handling) names.push_back(subcommand.name);
    }
  }
  return names;
}

bool handled(std::string_view name, Handling handling, Merge merge = Merge::kNone) {
  const Command& command = command_named(name);
  INFO(name << " is handled as " << static_cast<int>(command.handling) << ", merged as " << static_cast<int>(command.merge));
  CHECK(command.handling == handling);
  CHECK(command.merge == merge);
  return command.handling == handling && command.merge == merge;
}

}  // namespace

TEST_CASE("every command of the table is found by its name in any case, and as itself") {
  std::mt19937 random(7);
  REQUIRE(all_commands().size() == 240);
  for (const Command& command : all_commands()) {
    INFO(command.name);
    CHECK(find_in_exact_memory(command.name) == &command);
    std::string upper(command.name);
    for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    CHECK(find_in_exact_memory(upper) == &command);
    for (int i = 0; i < 8; ++i) CHECK(find_in_exact_memory(mixed_case(command.name, random)) == &command);
  }
}

TEST_CASE("every subcommand is found behind its container in any case, and nowhere else") {
  std::mt19937 random(11);
  std::size_t subcommands = 0;
  for (const Command& container : all_commands()) {
    for (const Command& subcommand : container.subcommands) {
      ++subcommands;
      INFO(subcommand.name);
      REQUIRE(subcommand.name.starts_with(std::string(container.name) + "|"));
      const std::string_view own = subcommand.name.substr(container.name.size() + 1);
      CHECK(find_subcommand(container, own) == &subcommand);
      CHECK(find_subcommand(container, mixed_case(own, random)) == &subcommand);
      CHECK(find_subcommand(container, own.substr(1)) == nullptr);
      CHECK(find_subcommand(container, std::string(own) + "x") == nullptr);
      CHECK(find_command(subcommand.name) == nullptr);
    }
  }
  CHECK(subcommands == 128);
  CHECK(find_subcommand(command_named("client"), "") == nullptr);
  CHECK(find_subcommand(command_named("client"), "client|id") == nullptr);
  CHECK(find_subcommand(command_named("get"), "id") == nullptr);
}

TEST_CASE("names are unique and lower case") {
  std::set<std::string_view> seen;
  const auto check = [&seen](const Command& command) {
    INFO(command.name);
    CHECK(seen.insert(command.name).second);
    CHECK(std::none_of(command.name.begin(), command.name.end(), [](unsigned char c) { return std::isupper(c) != 0; }));
  };
  for (const Command& command : all_commands()) {
    check(command);
    for (const Command& subcommand : command.subcommands) check(subcommand);
  }
}

TEST_CASE("a name that differs from a command's in one bit is only found if it is the same name in another case") {
  for (const Command& command : all_commands()) {
    for (std::size_t i = 0; i < command.name.size(); ++i) {
      for (int bit = 0; bit < 8; ++bit) {
        std::string name(command.name);
        name[i] = static_cast<char>(name[i] ^ (1 << bit));
        const Command* const found = find_in_exact_memory(name);
        const bool letter = command.name[i] >= 'a' && command.name[i] <= 'z';
        INFO("byte " << i << " bit " << bit << " of " << command.name);
        if (bit == 5 && letter) {
          CHECK(found == &command);
        } else if (found != nullptr) {
          CHECK(found->name == name);  // a neighbour such as getset and setset would be, spelt exactly
        }
      }
    }
  }
}

TEST_CASE("garbage of any bytes and any length is no command") {
  CHECK(find_command("") == nullptr);
  CHECK(find_command(std::string_view()) == nullptr);
  CHECK(find_command(std::string_view("get\0", 4)) == nullptr);
  CHECK(find_command(std::string_view("\0get", 4)) == nullptr);
  CHECK(find_command(std::string_view("get\0\0\0\0\0", 8)) == nullptr);
  CHECK(find_command(" get") == nullptr);
  CHECK(find_command("get\r") == nullptr);
  CHECK(find_command("restore\rasking") == nullptr);  // '\r' | 0x20 is '-': folding case must not be or-ing 0x20
  CHECK(find_command("bitfield\x7fro") == nullptr);
  CHECK(find_command("georadiusbymember_ro ") == nullptr);
  CHECK(find_command("g\xC7t") == nullptr);  // 'G' with the high bit set is no letter

  std::mt19937 random(3);
  for (std::size_t length = 1; length <= 300; ++length) {
    std::string name(length, '\0');
    for (int round = 0; round < 50; ++round) {
      for (char& c : name) c = static_cast<char>(random());
      const Command* const found = find_in_exact_memory(name);
      const bool is_that = found == nullptr || found->name.size() == length;
      CHECK(is_that);
      if (length > 3) CHECK(found == nullptr);
    }
  }
  CHECK(find_command(std::string(1 << 20, 'g')) == nullptr);
}

TEST_CASE("a prefix or an extension of a command's name is another name") {
  for (const Command& command : all_commands()) {
    for (std::size_t length = 0; length < command.name.size(); ++length) {
      const std::string_view prefix = command.name.substr(0, length);
      const Command* const found = find_in_exact_memory(prefix);
      if (found != nullptr) CHECK(found->name == prefix);
    }
    const std::string longer = std::string(command.name) + "z";
    CHECK(find_in_exact_memory(longer) == nullptr);
  }
}

TEST_CASE("arity counts the command's name: exact when positive, at least when negative") {
  CHECK(command_named("get").arity == 2);
  CHECK(command_named("get").arity_fits(2));
  CHECK_FALSE(command_named("get").arity_fits(1));
  CHECK_FALSE(command_named("get").arity_fits(3));
  CHECK_FALSE(command_named("set").arity_fits(2));
  CHECK(command_named("set").arity_fits(3));
  CHECK(command_named("set").arity_fits(300));
  CHECK(command_named("client|id").arity_fits(2));
  CHECK(command_named("client|setinfo").arity_fits(4));
  CHECK_FALSE(command_named("client|setinfo").arity_fits(3));
  CHECK(command_named("ping").arity_fits(1));
}

TEST_CASE("the reads that L1 may answer are these") {
  const std::vector<std::string_view> expected = {"bitcount",
                                                  "bitfield_ro",
                                                  "bitpos",
                                                  "expiretime",
                                                  "geodist",
                                                  "geohash",
                                                  "geopos",
                                                  "georadius_ro",
                                                  "georadiusbymember_ro",
                                                  "geosearch",
                                                  "get",
                                                  "getbit",
                                                  "getrange",
                                                  "hexists",
                                                  "hget",
                                                  "hgetall",
                                                  "hkeys",
                                                  "hlen",
                                                  "hmget",
                                                  "hstrlen",
                                                  "hvals",
                                                  "lindex",
                                                  "llen",
                                                  "lpos",
                                                  "lrange",
                                                  "pexpiretime",
                                                  "scard",
                                                  "sismember",
                                                  "smembers",
                                                  "smismember",
                                                  "strlen",
                                                  "substr",
                                                  "type",
                                                  "xlen",
                                                  "xrange",
                                                  "xrevrange",
                                                  "zcard",
                                                  "zcount",
                                                  "zlexcount",
                                                  "zmscore",
                                                  "zrange",
                                                  "zrangebylex",
                                                  "zrangebyscore",
                                                  "zrank",
                                                  "zrevrange",
                                                  "zrevrangebylex",
                                                  "zrevrangebyscore",
                                                  "zrevrank",
                                                  "zscore"};
  CHECK(names_handled(Handling::kCachedRead) == expected);
}

TEST_CASE("what may be kept is read-only, of one key at the first argument, and said to be so in both ways") {
  for (const Command& command : all_commands()) {
    INFO(command.name);
    for (const Command& subcommand : command.subcommands) CHECK(subcommand.caching == Caching::kNever);
    CHECK((command.caching != Caching::kNever) == (command.handling == Handling::kCachedRead || command.name == "exists"));
    if (command.caching == Caching::kNever) continue;
    CHECK(command.has(kFlagReadonly));
    CHECK_FALSE(command.has(kFlagMovableKeys));
    CHECK_FALSE(command.has(kFlagBlocking));
    CHECK_FALSE(may_write(command));
    CHECK(command.first_key == 1);
    CHECK(command.last_key == (command.name == "exists" ? -1 : 1));
  }
}

TEST_CASE("what may expire below its key is told from what lives as long as its key") {
  const auto caching = [](std::string_view name) { return command_named(name).caching; };
  for (const std::string_view name : {"hget", "hmget"}) CHECK(caching(name) == Caching::kFields);
  for (const std::string_view name : {"hgetall", "hkeys", "hvals", "hlen", "hexists", "hstrlen"})
    CHECK(caching(name) == Caching::kWholeHash);
  for (const Command& command : all_commands()) {
    INFO(command.name);
    if (command.name[0] != 'h') CHECK((command.caching == Caching::kNever || command.caching == Caching::kKey));
  }
}

TEST_CASE("replies that depend on the time, on chance, on other keys or on what is not signalled are never kept") {
  for (const std::string_view name : {"ttl",
                                      "pttl",
                                      "object|encoding",
                                      "object|idletime",
                                      "object|freq",
                                      "object|refcount",
                                      "randomkey",
                                      "hrandfield",
                                      "srandmember",
                                      "zrandmember",
                                      "scan",
                                      "sscan",
                                      "hscan",
                                      "zscan",
                                      "sort_ro",
                                      "sort",
                                      "pfcount",
                                      "dump",
                                      "memory|usage",
                                      "xread",
                                      "xinfo|stream",
                                      "xinfo|groups",
                                      "xinfo|consumers",
                                      "xpending",
                                      "getex",
                                      "getdel",
                                      "touch",
                                      "mget",
                                      "sinter",
                                      "zunion",
                                      "lcs",
                                      "eval_ro",
                                      "set"}) {
    INFO(name);
    const std::vector<std::string_view> args(6, "1");
    CHECK(command_named(name).caching == Caching::kNever);
    CHECK_FALSE(cacheable(command_named(name), std::span(args).first(2)));
    CHECK_FALSE(cacheable(command_named(name), args));
  }
}

TEST_CASE("a call may be kept if its arity fits and it has one key") {
  const auto kept = [](const std::vector<std::string_view>& args) { return cacheable(command_named(args[0]), args); };
  CHECK(kept({"get", "k"}));
  CHECK_FALSE(kept({"get"}));
  CHECK_FALSE(kept({"get", "k", "x"}));
  CHECK_FALSE(cacheable(command_named("get"), {}));
  CHECK(kept({"exists", "k"}));
  CHECK_FALSE(kept({"exists", "k", "k"}));
  CHECK_FALSE(kept({"exists", "k", "k2", "k3"}));
  CHECK_FALSE(kept({"exists"}));
  CHECK(kept({"getrange", "k", "0", "1"}));
  CHECK_FALSE(kept({"getrange", "k", "0"}));
  CHECK_FALSE(kept({"getrange", "k", "0", "1", "2"}));
  CHECK(kept({"hmget", "k", "a"}));
  CHECK(kept({"hmget", "k", "a", "b", "c"}));
  CHECK_FALSE(kept({"hmget", "k"}));
  CHECK(kept({"zrank", "k", "m"}));
  CHECK(kept({"zrank", "k", "m", "WITHSCORE"}));
  CHECK(kept({"zrange", "k", "0", "-1", "WITHSCORES"}));
}

TEST_CASE("the variant of GET is empty, of other reads their name in lower case and every argument but the key") {
  const auto variant = [](const std::vector<std::string_view>& args) {
    std::string text = "x";
    append_variant(text, command_named(args[0]), args);
    REQUIRE(text[0] == 'x');
    return text.substr(1);
  };
  CHECK(variant({"GET", "key"}).empty());
  CHECK(variant({"STRLEN", "key"}) == "strlen");
  CHECK(variant({"GetRange", "key", "0", "-1"}) == "getrange 1:0 2:-1");
  CHECK(variant({"getrange", "other", "0", "-1"}) == "getrange 1:0 2:-1");
  CHECK(variant({"HGET", "key", ""}) == "hget 0:");
  CHECK(variant({"HGET", "key", std::string_view("\0 1:", 4)}) == std::string("hget 4:\0 1:", 11));
}

TEST_CASE("no two different reads of a key have one variant") {
  const std::vector<std::string_view> pieces = {"", " ", ":", "a", "1:a", " 1:a", "0:", " 0:", "1", "1:", "aa", "0", "12:a"};
  std::set<std::string> seen;
  std::size_t reads = 0;
  const auto add = [&](const std::vector<std::string_view>& args) {
    std::string text;
    append_variant(text, command_named(args[0]), args);
    seen.insert(text);
    ++reads;
  };
  for (const std::string_view a : pieces) {
    add({"hmget", "k", a});
    add({"smismember", "k", a});
    for (const std::string_view b : pieces) {
      add({"hmget", "k", a, b});
      for (const std::string_view c : pieces) add({"hmget", "k", a, b, c});
    }
  }
  CHECK(seen.size() == reads);
}

TEST_CASE("commands that can be split by slot are split, with the merge that joins the parts") {
  CHECK(handled("mget", Handling::kSplit, Merge::kByKey));
  CHECK(handled("mset", Handling::kSplit, Merge::kAllSucceeded));
  for (const std::string_view name : {"del", "unlink", "exists", "touch"})
    CHECK(handled(name, Handling::kSplit, Merge::kSum));
  CHECK(names_handled(Handling::kSplit).size() == 6);
  CHECK(handled("msetnx", Handling::kForward));
}

TEST_CASE("commands about every node go to every primary") {
  CHECK(handled("dbsize", Handling::kFanOut, Merge::kSum));
  CHECK(handled("keys", Handling::kFanOut, Merge::kConcatenate));
  CHECK(handled("script|exists", Handling::kFanOut, Merge::kLogicalAnd));
  for (const std::string_view name :
       {"flushall", "flushdb", "script|load", "script|flush", "function|load", "function|delete", "function|flush",
        "function|restore", "config|set", "config|rewrite", "config|resetstat", "acl|setuser"}) {
    CHECK(handled(name, Handling::kFanOut, Merge::kAllSucceeded));
  }
}

TEST_CASE("what is merged is sent to several nodes, and what is sent to several nodes is merged") {
  const auto check = [](const Command& command) {
    INFO(command.name);
    const bool several = command.handling == Handling::kSplit || command.handling == Handling::kFanOut;
    CHECK(several == (command.merge != Merge::kNone));
  };
  for (const Command& command : all_commands()) {
    check(command);
    for (const Command& subcommand : command.subcommands) check(subcommand);
  }
}

TEST_CASE("commands about the client's own session are answered here") {
  for (const std::string_view name : {"ping",
                                      "echo",
                                      "hello",
                                      "auth",
                                      "quit",
                                      "reset",
                                      "select",
                                      "info",
                                      "client|id",
                                      "client|getname",
                                      "client|setname",
                                      "client|info",
                                      "client|setinfo",
                                      "client|list",
                                      "client|kill",
                                      "client|no-evict",
                                      "client|no-touch",
                                      "client|getredir",
                                      "client|trackinginfo",
                                      "client|pause",
                                      "client|unpause",
                                      "monitor",
                                      "slowlog|get",
                                      "slowlog|len",
                                      "slowlog|reset",
                                      "latency|histogram",
                                      "latency|latest",
                                      "latency|reset"}) {
    CHECK(handled(name, Handling::kLocal));
  }
}

TEST_CASE("commands without keys go to any node") {
  for (const std::string_view name : {"scan", "swapdb", "publish", "command", "command|docs", "time", "acl|whoami",
                                      "cluster|slots", "config|get", "object|help", "latency|help"}) {
    CHECK(handled(name, Handling::kAnyNode));
  }
}

TEST_CASE("commands that change or need the state of a connection get one of their own") {
  for (const std::string_view name :
       {"multi", "exec", "discard", "watch", "unwatch", "subscribe", "psubscribe", "ssubscribe", "unsubscribe",
        "punsubscribe", "sunsubscribe", "wait", "client|tracking", "client|caching", "client"}) {
    CHECK(handled(name, Handling::kPinned));
    CHECK(needs_own_connection(command_named(name), {}));
  }
}

TEST_CASE("every command flagged blocking is pinned, unless it blocks by an option only") {
  std::size_t blocking = 0;
  for (const Command& command : all_commands()) {
    if (!command.has(kFlagBlocking)) continue;
    INFO(command.name);
    ++blocking;
    CHECK((command.handling == Handling::kPinned) != command.has(kFlagBlocksByOption));
  }
  CHECK(blocking == 10);
  CHECK(command_named("xread").handling == Handling::kForward);
  CHECK(command_named("xreadgroup").handling == Handling::kForward);
}

TEST_CASE("commands that change what a shared connection is are denied") {
  for (const std::string_view name : {"psync", "sync", "replconf", "script|debug", "readonly", "readwrite", "asking"}) {
    CHECK(handled(name, Handling::kDenied));
  }
}

TEST_CASE("commands that would take the upstream away are for the deny list, and go to one node if that lets them") {
  for (const std::string_view name : {"shutdown", "debug", "replicaof", "slaveof", "failover", "cluster|addslots",
                                      "cluster|failover", "cluster|reset", "cluster|setslot", "cluster|saveconfig"}) {
    CHECK(handled(name, Handling::kAnyNode));
  }
}

TEST_CASE("a forwarded command has keys, and a command with keys is not sent to just any node") {
  const auto check = [](const Command& command) {
    INFO(command.name);
    const bool keys = command.first_key != 0 || command.has(kFlagMovableKeys);
    if (command.handling == Handling::kForward || command.handling == Handling::kCachedRead) CHECK(keys);
    if (command.handling == Handling::kAnyNode || command.handling == Handling::kFanOut) CHECK_FALSE(keys);
  };
  for (const Command& command : all_commands()) {
    check(command);
    for (const Command& subcommand : command.subcommands) check(subcommand);
  }
}

TEST_CASE("what may change keys: flagged writes, scripts, PFCOUNT; not their read-only kin, not libraries") {
  for (const std::string_view name : {"set", "del", "expire", "getex", "sort", "georadius", "eval", "evalsha", "fcall",
                                      "pfcount", "flushall", "swapdb", "xreadgroup", "migrate", "lmpop", "xgroup|create"}) {
    INFO(name);
    CHECK(may_write(command_named(name)));
  }
  for (const std::string_view name : {"get", "mget", "eval_ro", "evalsha_ro", "fcall_ro", "sort_ro", "georadius_ro", "xread",
                                      "publish", "function|load", "function|flush", "script|load", "client", "touch"}) {
    INFO(name);
    CHECK_FALSE(may_write(command_named(name)));
  }
}

TEST_CASE("the write set is known of every writing command but those that change whole databases") {
  std::set<std::string_view> unknown;
  for (const Command& command : all_commands()) {
    if (!write_keys_known(command)) unknown.insert(command.name);
    for (const Command& subcommand : command.subcommands) {
      if (!write_keys_known(subcommand)) unknown.insert(subcommand.name);
    }
  }
  CHECK(unknown == std::set<std::string_view>{"flushall", "flushdb", "swapdb"});
  for (const std::string_view name : unknown) CHECK(command_named(name).has(kFlagChangesAllKeys));
}

TEST_CASE("a writing command with incomplete or unknown key specifications has an unknown write set") {
  Command command;
  command.flags = kFlagWrite | kFlagMovableKeys;
  CHECK_FALSE(write_keys_known(command));
  KeySpec spec{.begin = KeySpec::Begin::kIndex, .find = KeySpec::Find::kRange, .index = 1};
  command.key_specs = {&spec, 1};
  CHECK(write_keys_known(command));
  spec.incomplete = true;
  CHECK_FALSE(write_keys_known(command));
  spec = {.begin = KeySpec::Begin::kIndex, .find = KeySpec::Find::kUnknown, .index = 1};
  CHECK_FALSE(write_keys_known(command));
  command.flags = kFlagReadonly | kFlagMovableKeys;
  CHECK(write_keys_known(command));
}

TEST_CASE("a command known only from COMMAND INFO is forwarded by its triple and never cached") {
  const DynamicCommand json("JSON.GET", -2, {"readonly", "module", "fast", "a_flag_of_tomorrow"}, 1, 1, 1);
  CHECK(json.command().name == "json.get");
  CHECK(json.command().arity == -2);
  CHECK(json.command().handling == Handling::kForward);
  CHECK(json.command().flags == (kFlagReadonly | kFlagFast));
  CHECK_FALSE(may_write(json.command()));
  CHECK(write_keys_known(json.command()));

  const DynamicCommand movable("mod.eval", -3, {"movablekeys"}, 0, 0, 0);
  CHECK(movable.command().handling == Handling::kForward);

  const DynamicCommand keyless("ft._list", 1, {"readonly", "module"}, 0, 0, 0);
  CHECK(keyless.command().handling == Handling::kAnyNode);

  const DynamicCommand waitaof("waitaof", 4, {"noscript", "blocking"}, 0, 0, 0);
  CHECK(waitaof.command().handling == Handling::kPinned);
  CHECK(needs_own_connection(waitaof.command(), {}));
}

TEST_CASE("the write set of an unlisted command is known by a plain triple only") {
  const DynamicCommand plain("json.set", -4, {"write", "denyoom", "module"}, 1, 1, 1);
  CHECK(may_write(plain.command()));
  CHECK(write_keys_known(plain.command()));

  const DynamicCommand movable("graph.merge", -3, {"write", "movablekeys"}, 1, 1, 1);
  CHECK(movable.command().handling == Handling::kForward);
  CHECK_FALSE(write_keys_known(movable.command()));

  const DynamicCommand keyless("ft.dropindex", -2, {"write"}, 0, 0, 0);
  CHECK(keyless.command().handling == Handling::kAnyNode);
  CHECK_FALSE(write_keys_known(keyless.command()));
}

}  // namespace nearcached::protocol
