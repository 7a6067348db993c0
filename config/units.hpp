// Numbers with units, from text and back. Pure functions; nothing here throws.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nearcached::config {

// Digits only: no sign, no spaces, no exponent. Empty if it is anything else or does not fit.
[[nodiscard]] std::optional<std::uint64_t> parse_integer(std::string_view text);

// "1048576", "100KB", "50MB", "2GB" (any case): 1024-based, as Redis's own configuration has it.
[[nodiscard]] std::optional<std::uint64_t> parse_bytes(std::string_view text);

// "250ms", "300s", "5m", "1h". A unit is required: "300" could be meant as either.
[[nodiscard]] std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);

// "0.8", "1", ".5": digits and at most one point.
[[nodiscard]] std::optional<double> parse_fraction(std::string_view text);

// The shortest text that parse_bytes() reads back as exactly `bytes`.
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);

// Text that parse_duration() reads back exactly; seconds are kept up to ten minutes ("300s", not "5m").
[[nodiscard]] std::string format_duration(std::chrono::milliseconds duration);

// Text that parse_fraction() reads back exactly.
[[nodiscard]] std::string format_fraction(double fraction);

}  // namespace nearcached::config
