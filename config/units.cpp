#include "config/units.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <limits>
#include <system_error>
#include <utility>

namespace nearcached::config {
namespace {

using std::chrono::milliseconds;

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr std::array<Unit, 3> kByteUnits{{{"KB", 1ull << 10}, {"MB", 1ull << 20}, {"GB", 1ull << 30}}};
constexpr std::array<Unit, 4> kDurationUnits{{{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

bool same_word(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (upper(a[i]) != upper(b[i])) return false;
  }
  return true;
}

std::pair<std::string_view, std::string_view> split_number(std::string_view text) {
  std::size_t digits = 0;
  while (digits < text.size() && is_digit(text[digits])) ++digits;
  return {text.substr(0, digits), text.substr(digits)};
}

std::optional<std::uint64_t> multiply(std::uint64_t number, std::uint64_t factor) {
  if (number > std::numeric_limits<std::uint64_t>::max() / factor) return std::nullopt;
  return number * factor;
}

}  // namespace

std::optional<std::uint64_t> parse_integer(std::string_view text) {
  if (text.empty() || !is_digit(text.front())) return std::nullopt;
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  const auto [digits, unit] = split_number(text);
  const auto number = parse_integer(digits);
  if (!number) return std::nullopt;
  if (unit.empty()) return number;
  for (const Unit& candidate : kByteUnits) {
    if (same_word(unit, candidate.name)) return multiply(*number, candidate.factor);
  }
  return std::nullopt;
}

std::optional<milliseconds> parse_duration(std::string_view text) {
  const auto [digits, unit] = split_number(text);
  const auto number = parse_integer(digits);
  if (!number) return std::nullopt;
  for (const Unit& candidate : kDurationUnits) {
    if (unit != candidate.name) continue;
    const auto total = multiply(*number, candidate.factor);
    if (!total || *total > static_cast<std::uint64_t>(milliseconds::max().count())) return std::nullopt;
    return milliseconds{static_cast<milliseconds::rep>(*total)};
  }
  return std::nullopt;
}

std::optional<double> parse_fraction(std::string_view text) {
  if (text.empty() || text.find_first_not_of("0123456789.") != std::string_view::npos) return std::nullopt;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string format_bytes(std::uint64_t bytes) {
  for (auto unit = kByteUnits.rbegin(); unit != kByteUnits.rend(); ++unit) {
    if (bytes != 0 && bytes % unit->factor == 0) return std::to_string(bytes / unit->factor) + std::string(unit->name);
  }
  return std::to_string(bytes);
}

std::string format_duration(milliseconds duration) {
  const auto count = duration.count();
  if (count % 1000 != 0) return std::to_string(count) + "ms";
  if (count != 0 && count % 3'600'000 == 0) return std::to_string(count / 3'600'000) + "h";
  if (count > 600'000 && count % 60'000 == 0) return std::to_string(count / 60'000) + "m";
  return std::to_string(count / 1000) + "s";
}

std::string format_fraction(double fraction) {
  std::array<char, 64> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), fraction, std::chars_format::fixed);
  return std::string(buffer.data(), result.ptr);
}

}  // namespace nearcached::config
