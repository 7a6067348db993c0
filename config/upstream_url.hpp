// The upstream's URL, and the credentials that result from it and the keys beside it.
//
//     redis://[user:password@]host[:port][/database]        one server
//     redis+cluster://[user:password@]host[:port],...       a cluster; the hosts are seeds
//     unix:/path                                            one server on this host
//     redis+sentinel://[user:password@]host[:port],.../master[/database]
//                                                           the server that the sentinels at the hosts call by that name
//     rediss://..., rediss+cluster://..., rediss+sentinel://...   the same with TLS
//
// Anything that does not fit into user or password as it is, is percent-encoded there ('/', '@' and '%' at least).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "config/settings.hpp"

namespace nearcached::config {

inline constexpr std::uint16_t kRedisPort = 6379;
inline constexpr std::uint16_t kSentinelPort = 26379;
inline constexpr std::size_t kSeedsMax = 64;
inline constexpr std::string_view kRedacted = "<redacted>";

// On success `url` is filled and the result is empty; else the result says what is wrong, without the password.
[[nodiscard]] std::string parse_upstream_url(std::string_view text, UpstreamUrl& url);

// A URL that may be malformed, fit for a message: all that could be a secret is masked.
[[nodiscard]] std::string redact_unparsed_url(std::string_view text);

// What the sidecar itself authenticates with: upstream.username and upstream.password (or the first line of
// upstream.password_file) win over the URL's. Reads the file each time, so that a rotated secret is found. Throws
// ConfigError if the file can't be read, its first line is empty or longer than 4 KB.
[[nodiscard]] tiers::upstream::Credentials resolved_credentials(const Upstream& upstream);
// Of a user of `users`: who it is to the upstream.
[[nodiscard]] tiers::upstream::Credentials resolved_credentials(const User& user, const Upstream& upstream);
// The passwords of its password_files.
[[nodiscard]] std::vector<std::string> resolved_passwords(const User& user);
// Of admin.token_file; empty if there is none.
[[nodiscard]] std::string resolved_admin_token(const Admin& admin);
// The same of upstream.sentinel, for the sentinels.
[[nodiscard]] tiers::upstream::Credentials resolved_sentinel_credentials(const Upstream& upstream);

}  // namespace nearcached::config
