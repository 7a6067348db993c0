// What a connection to the upstream says first.
#pragma once

#include <string>
#include <vector>

#include "protocol/writer.hpp"
#include "tiers/upstream/identity.hpp"

namespace nearcached::tiers::upstream {

// The commands that make a new connection one of that user, in that database and version; each has one reply, and any error
// among them means that the connection is not to be used. May be empty.
[[nodiscard]] std::vector<std::string> greeting(const Identity& identity, protocol::RespVersion version);

}  // namespace nearcached::tiers::upstream
