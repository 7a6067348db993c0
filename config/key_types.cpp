#include "config/key_types.hpp"

#include <algorithm>

namespace nearcached::config {
namespace {

std::optional<std::uint64_t> parse(Quantity quantity, std::string_view text) {
  switch (quantity) {
    case Quantity::kInteger: return parse_integer(text);
    case Quantity::kBytes: return parse_bytes(text);
    case Quantity::kDuration: break;
  }
  const auto duration = parse_duration(text);
  if (!duration) return std::nullopt;
  return to_number(*duration);
}

std::string format(Quantity quantity, std::uint64_t number) {
  switch (quantity) {
    case Quantity::kInteger: return std::to_string(number);
    case Quantity::kBytes: return format_bytes(number);
    case Quantity::kDuration: break;
  }
  return format_duration(std::chrono::milliseconds{static_cast<std::int64_t>(number)});
}

std::string_view noun(Quantity quantity) {
  switch (quantity) {
    case Quantity::kInteger: return "a whole number";
    case Quantity::kBytes: return "a size";
    case Quantity::kDuration: break;
  }
  return "a duration";
}

}  // namespace

std::string describe(const Value& value) {
  constexpr std::size_t kShownMax = 80;
  switch (value.kind) {
    case Value::Kind::kNull: return "nothing";
    case Value::Kind::kList: return "a list";
    case Value::Kind::kMap: return "a map";
    case Value::Kind::kScalar: break;
  }
  std::string shown = "\"";
  for (const char c : std::string_view(value.text).substr(0, kShownMax)) {
    shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return shown + (value.text.size() > kShownMax ? "...\"" : "\"");
}

std::string allowed_text(Quantity quantity, const Range& range) {
  const std::string word(range.zero_word);
  std::string text;
  switch (quantity) {
    case Quantity::kInteger: text = word.empty() ? "a whole number" : "a whole number or " + word + ","; break;
    case Quantity::kBytes:
      text = word.empty() ? "a number of bytes with optional KB, MB or GB,"
                          : "a number of bytes with optional KB, MB, GB, or " + word + ",";
      break;
    case Quantity::kDuration:
      text = "a number with its unit (ms, s, m or h)" + (word.empty() ? "," : " or " + word + ",");
      break;
  }
  text += " from " + format(quantity, range.min) + " to " + format(quantity, range.max);
  if (range.zero_allowed) text += ", or " + format(quantity, 0);
  if (!range.zero_means.empty()) text += " (" + format(quantity, 0) + ": " + std::string(range.zero_means) + ")";
  return text;
}

std::string format_quantity(Quantity quantity, const Range& range, std::uint64_t number) {
  if (number == 0 && !range.zero_word.empty()) return std::string(range.zero_word);
  return format(quantity, number);
}

std::variant<std::uint64_t, Problem> read_quantity(Quantity quantity, const Range& range, const Value& value) {
  std::string text;
  if (Problem problem = read_scalar(value, noun(quantity), text); !problem.text.empty()) return problem;
  if (!range.zero_word.empty() && text == range.zero_word) return std::uint64_t{0};
  const auto number = parse(quantity, text);
  if (!number && quantity == Quantity::kDuration && parse_integer(text)) {
    return Problem{describe(value) + " has no unit", value.line};
  }
  if (!number) return Problem{describe(value) + " is not " + std::string(noun(quantity)), value.line};
  if (*number == 0 && range.zero_allowed) return std::uint64_t{0};
  if (*number < range.min || *number > range.max) return Problem{describe(value) + " is out of range", value.line};
  return *number;
}

Problem read_scalar(const Value& value, std::string_view what, std::string& text) {
  if (value.kind == Value::Kind::kNull) return {"has no value", value.line};
  if (value.kind != Value::Kind::kScalar) return {describe(value) + " is not " + std::string(what), value.line};
  text = value.text;
  return {};
}

Problem read_text(const Value& value, std::string& text) {
  if (Problem problem = read_scalar(value, "text", text); !problem.text.empty()) return problem;
  if (text.size() > kTextMax) return {describe(value) + " is longer than 4KB", value.line};
  const bool control =
      std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (control) return {describe(value) + " has control characters", value.line};
  return {};
}

}  // namespace nearcached::config
