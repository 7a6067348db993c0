// Decimal numbers as RESP writes them.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace nearcached::protocol {

// The whole of `text` as a signed 64-bit number in its one canonical form: an optional '-', no leading zero, no '+', no
// blank, "-0" refused. What Redis's string2ll takes, and stricter than strtol on purpose: two parsers that disagree about
// "+1" or "01" disagree about where the next command begins.
[[nodiscard]] inline std::optional<std::int64_t> parse_decimal(std::string_view text) {
  const std::string_view digits = text.starts_with('-') ? text.substr(1) : text;
  if (digits.empty() || digits.front() == '-') return std::nullopt;
  if (digits.front() == '0' && text.size() > 1) return std::nullopt;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace nearcached::protocol
