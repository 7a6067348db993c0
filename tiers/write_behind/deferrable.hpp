// Which commands a sidecar can answer before the upstream has seen them.
#pragma once

#include <cstdint>
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

}  // namespace nearcached::tiers::write_behind
