// What a connection to the upstream says first.
#pragma once

#include <string>
#include <vector>

#include "protocol/writer.hpp"
#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::upstream {

// The commands that make a new connection one of `who`, in that version, in that database; each has one reply, and any error
// among them means that the connection is not to be used. May be empty.
[[nodiscard]] std::vector<std::string> greeting(const Credentials& who, protocol::RespVersion version,
                                                std::uint32_t database);

}  // namespace nearcached::tiers::upstream
