// Addresses as people write them: HOST:PORT, [::1]:PORT, unix:PATH. Pure functions; nothing here resolves a name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tiers/upstream/topology.hpp"

namespace nearcached::config {

// Longest path of a unix socket: sockaddr_un holds 108 bytes with the terminating zero.
inline constexpr std::size_t kUnixPathMax = 107;

// "HOST:PORT", "[V6]:PORT"; without a port `default_port` is taken, and 0 as default means that a port is required.
// The host of the result is without brackets. Port 0 is refused: no one could know which port it became.
[[nodiscard]] std::optional<tiers::upstream::Endpoint> parse_host_port(std::string_view text, std::uint16_t default_port);

// "unix:PATH" or "unix://PATH", 1..kUnixPathMax bytes.
[[nodiscard]] std::optional<tiers::upstream::Endpoint> parse_unix(std::string_view text);

// parse_unix() or parse_host_port() with a required port.
[[nodiscard]] std::optional<tiers::upstream::Endpoint> parse_listen(std::string_view text);

// Text that parse_listen() reads back; unlike Endpoint::text() with brackets around an IPv6 address.
[[nodiscard]] std::string address_text(const tiers::upstream::Endpoint& endpoint);

}  // namespace nearcached::config
