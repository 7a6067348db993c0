// What reads are told of a key whose newest value is not upstream yet.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/writer.hpp"
#include "tiers/write_behind/write_queue.hpp"

namespace nearcached::tiers::write_behind {

// Appends the reply that Redis would give if `write` were applied: GET, STRLEN, GETRANGE, SUBSTR, EXISTS of one key, TYPE,
// TTL, PTTL, EXPIRETIME, PEXPIRETIME. False, and nothing appended, for every other command, for arguments that Redis would
// refuse: then the key is flushed first.
// `now_ms`: unix.
[[nodiscard]] bool append_pending_reply(std::string& out, std::string_view command,
                                        const std::vector<std::string_view>& args, const Write& write, std::int64_t now_ms,
                                        protocol::RespVersion version);

}  // namespace nearcached::tiers::write_behind
