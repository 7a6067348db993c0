// CONFIG GET of this process's settings.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "config/settings.hpp"
#include "protocol/writer.hpp"

namespace nearcached::daemon {

// In front of every setting's path: "nearcached.l1.max_bytes".
inline constexpr std::string_view kSettingPrefix = "nearcached.";

enum class Letters : std::uint8_t { kAlike, kDiffer };  // of both cases

// Redis's glob (*, ?, [a-z], [^a], \x). Steps are bounded by the product of the lengths.
[[nodiscard]] bool glob_matches(std::string_view pattern, std::string_view text, Letters letters = Letters::kAlike);

// The upstream's whole reply to CONFIG GET, and behind it each setting whose name one of the patterns matches, once; secrets
// redacted. An error, or what is no list of pairs, is returned as it is.
[[nodiscard]] std::string with_own_settings(std::string upstream_reply, std::span<const std::string_view> patterns,
                                            const config::Settings& settings);

// Whether CONFIG SET (names at 2, 4, ...) names one of them; that name, else nothing.
[[nodiscard]] std::string_view own_setting_named(std::span<const std::string_view> args);

}  // namespace nearcached::daemon
