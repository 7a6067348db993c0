// The command table: what Redis says of each of its commands, and what the sidecar does with it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::protocol {

// What the sidecar does with a command. One decided class per command and subcommand; the dispatcher switches on it.
enum class Handling : std::uint8_t {
  kLocal,       // answered by this process: PING, HELLO, CLIENT ID, SLOWLOG ...
  kCachedRead,  // a read of one key that L1 may answer: see `caching`
  kForward,     // has keys of one slot: the client's bytes go to that slot's node
  kSplit,       // keys of several slots: one part per slot, merged as `merge` says (MGET MSET DEL UNLINK EXISTS TOUCH)
  kFanOut,      // to every primary, merged as `merge` says (DBSIZE, FLUSHALL, KEYS, SCRIPT LOAD ...)
  kAnyNode,     // has no keys: any node will do
  kPinned,      // needs a connection of its own: MULTI, WATCH, SUBSCRIBE, blocking commands
  kDenied,      // would change what others share (PSYNC, READONLY, ASKING); what else nobody may do says the configuration
};

// How the parts of a split or fanned-out command become one reply (Redis's response_policy tips).
enum class Merge : std::uint8_t {
  kNone,
  kAllSucceeded,  // the first error, else the first reply
  kSum,           // integers added
  kLogicalAnd,    // arrays of 0/1 combined element by element
  kConcatenate,   // arrays joined, order undefined
  kUnion,         // the same, each element once
  kSumPairs,      // arrays of [name, integer, ...]: integers added by place
  kRandom,        // any one that is not null
  kByKey,         // arrays whose elements go back to the places of their keys (MGET)
};

// Whether a reply may be kept in L1, and what its life depends on besides invalidations.
enum class Caching : std::uint8_t {
  kNever,
  kKey,        // lives as long as its key: PTTL is enough
  kFields,     // HGET HMGET: names its hash fields; where fields expire (Redis 7.4+) the fill pairs HPTTL with it
  kWholeHash,  // HGETALL HKEYS HVALS HLEN HEXISTS HSTRLEN: a field's expiry may change it
};

// How the RESP3 reply of a cacheable command becomes the RESP2 one (reply_form.hpp does it). In all forms doubles become
// bulk strings of the same text, booleans 0 and 1, maps and sets arrays; strings, integers and arrays stay.
enum class Resp2Form : std::uint8_t {
  kPlain,      // a null is "$-1"
  kNullArray,  // a null is "*-1": GEOPOS's absent member, XRANGE COUNT 0
  kPairsFlat,  // [member, score] pairs become one flat array (ZRANGE WITHSCORES); otherwise as kPlain
  kRank,       // ZRANK: kNullArray with WITHSCORE, kPlain without
};

// Redis's own command flags, those that matter here, and four of ours at the end.
enum CommandFlag : std::uint32_t {
  kFlagWrite = 1u << 0,
  kFlagReadonly = 1u << 1,
  kFlagDenyOom = 1u << 2,
  kFlagAdmin = 1u << 3,
  kFlagPubsub = 1u << 4,
  kFlagNoscript = 1u << 5,
  kFlagBlocking = 1u << 6,
  kFlagLoading = 1u << 7,
  kFlagStale = 1u << 8,
  kFlagNoAuth = 1u << 9,
  kFlagMayReplicate = 1u << 10,  // not `write`, yet may change keys: EVAL, FCALL, PFCOUNT
  kFlagMovableKeys = 1u << 11,
  kFlagFast = 1u << 12,
  kFlagNoMandatoryKeys = 1u << 13,  // zero keys are fine: EVAL script 0
  kFlagBlocksByOption = 1u << 14,   // blocks only with BLOCK (XREAD, XREADGROUP): see needs_own_connection
  kFlagChangesAllKeys = 1u << 15,   // may change every key of a database (FLUSHALL, FLUSHDB, SWAPDB): purge, don't fence
  kFlagChangesNoKey = 1u << 16,     // `write`, but not to the key space (FUNCTION LOAD)
};

// How the keys of a movable command are found: by its key specifications, or, where Redis itself calls those unknown or
// incomplete, by the command's own grammar.
enum class KeyGrammar : std::uint8_t {
  kSpecs,
  kSort,     // SORT key [options] [STORE destination]; patterns of BY and GET are not keys of the call
  kMigrate,  // MIGRATE host port key|"" db timeout [options] [KEYS key ...]
  kStreams,  // XREAD, XREADGROUP: [options] STREAMS key ... id ...
};

// A key specification of Redis 7: where keys begin, and how many follow.
struct KeySpec {
  enum class Begin : std::uint8_t { kIndex, kKeyword, kUnknown };
  enum class Find : std::uint8_t { kRange, kKeynum, kUnknown };
  Begin begin = Begin::kUnknown;
  Find find = Find::kUnknown;
  std::int16_t index = 0;         // kIndex: argument position; kKeyword: where the search starts (negative: from the end)
  std::string_view keyword = {};  // kKeyword
  std::int16_t last_key = 0;      // kRange: relative to the first key; negative: from the end
  std::int16_t step = 1;          // both
  std::int16_t limit = 0;         // kRange with last_key -1: 0 or 1 no limit, n: 1/n of what remains
  std::int16_t keynum_index = 0;  // kKeynum: where the count is, relative to the begin
  std::int16_t first_key = 0;     // kKeynum: where the first key is, relative to the begin
  bool writes = false;            // the key may be changed (flags RW, OW, RM)
  bool incomplete = false;        // the specification does not give all keys
};

// The categories of Redis's ACL, without '@'.
inline constexpr std::string_view kCategories[] = {
    "keyspace", "read",   "write",       "set",       "sortedset",  "list",        "hash",
    "string",   "bitmap", "hyperloglog", "geo",       "stream",     "pubsub",      "admin",
    "fast",     "slow",   "blocking",    "dangerous", "connection", "transaction", "scripting"};

struct Command {
  std::string_view name;    // lower case; a subcommand is "client|id"
  std::int16_t arity = 0;   // as Redis counts: with the name; negative: at least
  std::uint32_t flags = 0;  // CommandFlag
  Handling handling = Handling::kForward;
  Merge merge = Merge::kNone;
  std::int16_t first_key = 0;  // the plain (first, last, step) triple; first_key 0: no keys
  std::int16_t last_key = 0;
  std::int16_t key_step = 0;
  std::span<const KeySpec> key_specs = {};
  std::span<const Command> subcommands = {};
  KeyGrammar key_grammar = KeyGrammar::kSpecs;
  Caching caching = Caching::kNever;
  Resp2Form resp2_form = Resp2Form::kPlain;
  std::uint32_t categories = 0;  // of ACL CAT: bits by place in kCategories

  [[nodiscard]] bool has(CommandFlag flag) const { return (flags & flag) != 0; }
  [[nodiscard]] bool arity_fits(std::size_t args) const {
    return arity >= 0 ? args == static_cast<std::size_t>(arity) : args >= static_cast<std::size_t>(-arity);
  }
};

// Redis 7.0's command of that name (any case), or nullptr. A container command ("client") is returned as itself: use
// find_subcommand for what follows; where that finds nothing, the container's own handling is the safe one. A few
// nanoseconds, no allocation; any bytes and any length may be asked for.
[[nodiscard]] const Command* find_command(std::string_view name);

// `name` without the container's: "id", any case. Subcommands that clients send and Redis 7.0 lacks (CLIENT SETINFO,
// CLIENT NO-TOUCH) are in the table too.
[[nodiscard]] const Command* find_subcommand(const Command& container, std::string_view name);

// Every command of the table, containers without their subcommands.
[[nodiscard]] std::span<const Command> all_commands();

// Positions (indices into args, the name being 0) of the keys of this call: by the plain triple or, where keys are movable
// (EVAL, ZUNIONSTORE, GEORADIUS ...), by the key specs or the command's KeyGrammar. `positions` is cleared first and keeps
// its memory. The answers are those of Redis's COMMAND GETKEYS for every call that Redis would carry out; sharded channels
// (SPUBLISH, SSUBSCRIBE) count as keys because they are routed like them. True with no positions: the call has no keys
// (EVAL script 0: any node will do, and what it writes is unknown). False: the arguments do not say (too few, a count that
// is no number or larger than what follows, unbalanced STREAMS, MIGRATE with both a key and KEYS); the upstream will refuse
// them in its own words.
[[nodiscard]] bool extract_keys(const Command& command, std::span<const std::string_view> args,
                                std::vector<std::uint32_t>& positions);

// True if this call must not travel on a shared connection: handling kPinned, or XREAD / XREADGROUP with BLOCK (their
// handling is kForward: without BLOCK they are ordinary keyed commands). Ask before switching on `handling`.
[[nodiscard]] bool needs_own_connection(const Command& command, std::span<const std::string_view> args);

// True if the command may change the value or the life of a key. Not EVAL_RO, FCALL_RO; not FUNCTION LOAD; not EXEC, whose
// writes are those of the commands queued before it.
[[nodiscard]] bool may_write(const Command& command);

// False if the command may write and the keys it writes can't be told from its arguments: no key specifications (FLUSHALL,
// SWAPDB, some modules' commands) or incomplete ones. Scripts declare their keys; one that declares none (extract_keys gives
// true and no positions) is for the caller to treat as unknown.
[[nodiscard]] bool write_keys_known(const Command& command);

// True if the reply of this call may be kept: the command's reply depends on its arguments and one key alone, the call has
// exactly that one key (EXISTS k, not EXISTS k k2), at args[1], and the arity fits. What the upstream answers with an error
// is still not to be kept. Constant time.
[[nodiscard]] bool cacheable(const Command& command, std::span<const std::string_view> args);

// Appends what distinguishes this read of args[1] from other reads of it: nothing for GET, else the command's lower-case
// name and every argument but the key, each behind its length ("getrange 1:0 2:-1"), so that two reads have the same variant
// only if they are the same. Option words keep their case: `ZRANGE k 0 1 REV` and `... rev` are two. Only for cacheable
// calls. As long as the arguments are: the caller bounds what it keeps.
void append_variant(std::string& variant, const Command& command, std::span<const std::string_view> args);

// A command that this table does not know, as the upstream's COMMAND INFO describes it (modules, newer servers). Owns its
// strings; neither copied nor moved, because command() points into it. Handled as kForward where it has keys, else kAnyNode;
// kPinned if flagged blocking (WAITAOF of 7.2: a shared connection would stall everybody on it); never cached. Keys come
// from the triple alone: of a movable command that is Redis's guess, so its write set counts as unknown. Immutable, so that
// any thread may read it.
class DynamicCommand {
 public:
  // From the parts of a COMMAND INFO element: name, arity, flag words ("write", "movablekeys" ...; unknown ones are
  // ignored), first/last/step.
  DynamicCommand(std::string name, std::int16_t arity, const std::vector<std::string>& flags, std::int16_t first_key,
                 std::int16_t last_key, std::int16_t key_step);
  DynamicCommand(const DynamicCommand&) = delete;
  DynamicCommand& operator=(const DynamicCommand&) = delete;
  [[nodiscard]] const Command& command() const { return command_; }

 private:
  std::string name_;
  Command command_;
};

}  // namespace nearcached::protocol
