// Which commands a sidecar can answer before the upstream has seen them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "tiers/write_behind/write_queue.hpp"

namespace nearcached::tiers::write_behind {

struct DeferrableWrite {
  std::string_view key;  // a view into the command
  WritePtr write;
};

// What a command does to its keys, if its answer is OK whatever they hold and doing it again, later, gives the same: SET
// with EX, PX, EXAT or PXAT and no other option, SETEX, PSETEX, MSET, their deadlines made absolute by `now_ms` (unix). In
// the order of the command: a later write of the same key is the newer one.
//
// Empty for everything else, and for whatever Redis would refuse: what is no number, what is out of range, an arity that
// does not fit. So the upstream says what is wrong, in its own words (t_string.c of Redis 7.0: parseExtendedStringArguments,
// getExpireMillisecondsOrReply).
[[nodiscard]] std::vector<DeferrableWrite> deferrable_writes(std::string_view command,
                                                             const std::vector<std::string_view>& args, std::int64_t now_ms);

// What is known here of the key of a command, without asking the upstream: its pending write, or that L1 has it or has it
// as absent.
struct KnownKey {
  const Write* pending = nullptr;
  bool exists = false;
};

// A write whose answer, or what it does, depends on what the key is.
struct DependentWrite {
  WritePtr write;                      // none: nothing changes
  std::optional<std::int64_t> number;  // the answer; none: OK
};

// A command that dependent_write() may say something of.
[[nodiscard]] bool depends_on_key(std::string_view command, const std::vector<std::string_view>& args);

// DEL and UNLINK of one key; of a pending one also EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT without options, and SET with
// KEEPTTL alone. Nothing for everything else, and for whatever Redis would refuse.
[[nodiscard]] std::optional<DependentWrite> dependent_write(std::string_view command,
                                                            const std::vector<std::string_view>& args, const KnownKey& known,
                                                            std::int64_t now_ms);

}  // namespace nearcached::tiers::write_behind
