// What the upstream's answer to a flushed write means.
#pragma once

#include <cstdint>
#include <string_view>

namespace nearcached::tiers::write_behind {

enum class FlushOutcome : std::uint8_t {
  kApplied,
  kAgain,  // it may be taken later: a failover, a full disk, a node that loads, a password that is being changed
  kNever,  // it would be refused for ever (WRONGTYPE, NOPERM, OOM, ERR): a dead letter
};

// `reply`: one whole reply, or the text of an error without '-' and CR LF if `failed` (ReplySink::on_failure). Error codes:
// https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors and src/server.c of Redis 7.0,
// createSharedObjects.
[[nodiscard]] FlushOutcome flush_outcome(std::string_view reply, bool failed);

}  // namespace nearcached::tiers::write_behind
