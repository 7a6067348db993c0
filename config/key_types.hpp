// The types a key can have: each is a function that makes a Key out of a path, a range, a description and an accessor.
//
// The accessor is a generic lambda, `[](auto& s) -> auto& { return s.l1.ttl; }`, so that the same one line serves the
// setter and the printer with the constness of each. Templates only dispatch; parsing and words are in key_types.cpp.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "config/schema.hpp"
#include "config/units.hpp"

namespace nearcached::config {

// Bounds of durations, in milliseconds.
inline constexpr std::uint64_t kSecond = 1000;
inline constexpr std::uint64_t kMinute = 60 * kSecond;
inline constexpr std::uint64_t kHour = 60 * kMinute;
inline constexpr std::uint64_t kDay = 24 * kHour;

// Of integers, bytes and durations in milliseconds: `min`..`max`, and a word that stands for 0 if there is one.
struct Range {
  std::uint64_t min = 0;
  std::uint64_t max = 0;
  std::string_view zero_word = {};  // "auto": 0 inside, written and printed as the word
  bool zero_allowed = false;        // 0 is allowed although min is above it
  std::string_view zero_means = {};
};

enum class Quantity : std::uint8_t { kInteger, kBytes, kDuration };

// "\"lots\"", "a list", "a map", "nothing": what was found, for a message.
[[nodiscard]] std::string describe(const Value& value);

[[nodiscard]] std::string allowed_text(Quantity quantity, const Range& range);
[[nodiscard]] std::string format_quantity(Quantity quantity, const Range& range, std::uint64_t number);
// The number, or what is wrong.
[[nodiscard]] std::variant<std::uint64_t, Problem> read_quantity(Quantity quantity, const Range& range, const Value& value);

// Fills `text`; `what` completes "is not ...".
[[nodiscard]] Problem read_scalar(const Value& value, std::string_view what, std::string& text);

[[nodiscard]] inline std::uint64_t to_number(std::chrono::milliseconds value) {
  return static_cast<std::uint64_t>(value.count());
}
template <typename T>
[[nodiscard]] std::uint64_t to_number(T value) {
  return static_cast<std::uint64_t>(value);
}

template <typename Access>
Key quantity_key(Quantity quantity, std::string path, Range range, std::string description, Access access) {
  constexpr std::array<std::string_view, 3> kNames{"integer", "bytes", "duration"};
  Key key;
  key.path = std::move(path);
  key.type = kNames[static_cast<std::size_t>(quantity)];
  key.allowed = allowed_text(quantity, range);
  key.description = std::move(description);
  key.set = [quantity, range, access](Settings& settings, const Value& value) -> Problem {
    auto result = read_quantity(quantity, range, value);
    if (auto* problem = std::get_if<Problem>(&result)) return std::move(*problem);
    auto& field = access(settings);
    field = std::decay_t<decltype(field)>(std::get<std::uint64_t>(result));
    return {};
  };
  key.print = [quantity, range, access](const Settings& settings) {
    return Value::scalar(format_quantity(quantity, range, to_number(access(settings))));
  };
  return key;
}

// One of a closed list of words, each standing for a value of the field's type (enumeration or bool).
template <typename T, std::size_t N>
using Words = std::array<std::pair<std::string_view, T>, N>;

// "a, b or c".
template <typename T, std::size_t N>
[[nodiscard]] std::string words_text(const Words<T, N>& words) {
  std::string text;
  for (std::size_t i = 0; i < N; ++i) {
    if (i > 0) text += i + 1 == N ? " or " : ", ";
    text += words[i].first;
  }
  return text;
}

// Empty for a meaning without a word.
template <typename T, std::size_t N>
[[nodiscard]] std::string_view word_of(const Words<T, N>& words, T meaning) {
  for (const auto& [word, its] : words) {
    if (its == meaning) return word;
  }
  return {};
}

// Changes `meaning` only if the value is one of the words.
template <typename T, std::size_t N>
[[nodiscard]] Problem read_word(const Words<T, N>& words, const Value& value, T& meaning) {
  std::string text;
  if (Problem problem = read_scalar(value, words_text(words), text); !problem.text.empty()) return problem;
  for (const auto& [word, its] : words) {
    if (text != word) continue;
    meaning = its;
    return {};
  }
  return {describe(value) + " is not " + words_text(words), value.line};
}

template <typename T, std::size_t N, typename Access>
Key word_key(std::string path, std::string type, Words<T, N> words, std::string description, Access access) {
  Key key;
  key.path = std::move(path);
  key.type = std::move(type);
  key.allowed = words_text(words);
  key.description = std::move(description);
  key.set = [words, access](Settings& settings, const Value& value) -> Problem {
    return read_word(words, value, access(settings));
  };
  key.print = [words, access](const Settings& settings) {
    return Value::scalar(std::string(word_of(words, access(settings))));
  };
  return key;
}

template <typename Access>
Key bool_key(std::string path, std::string description, Access access) {
  return word_key(std::move(path), "boolean", Words<bool, 2>{{{"true", true}, {"false", false}}}, std::move(description),
                  access);
}

// A share, `min`..`max`.
template <typename Access>
Key fraction_key(std::string path, double min, double max, std::string description, Access access) {
  Key key;
  key.path = std::move(path);
  key.type = "fraction";
  key.allowed = "a number from " + format_fraction(min) + " to " + format_fraction(max);
  key.description = std::move(description);
  key.set = [min, max, access](Settings& settings, const Value& value) -> Problem {
    std::string text;
    if (Problem problem = read_scalar(value, "a number", text); !problem.text.empty()) return problem;
    const std::optional<double> number = parse_fraction(text);
    if (!number) return {describe(value) + " is not a number", value.line};
    if (*number < min || *number > max) return {describe(value) + " is out of range", value.line};
    access(settings) = *number;
    return {};
  };
  key.print = [access](const Settings& settings) { return Value::scalar(format_fraction(access(settings))); };
  return key;
}

// Free text without control characters, at most `kTextMax` bytes.
inline constexpr std::size_t kTextMax = 4096;
[[nodiscard]] Problem read_text(const Value& value, std::string& text);

template <typename Access>
Key text_key(std::string path, std::string allowed, std::string description, Access access) {
  Key key;
  key.path = std::move(path);
  key.type = "text";
  key.allowed = std::move(allowed);
  key.description = std::move(description);
  key.set = [access](Settings& settings, const Value& value) -> Problem {
    std::string text;
    if (Problem problem = read_text(value, text); !problem.text.empty()) return problem;
    access(settings) = std::move(text);
    return {};
  };
  key.print = [access](const Settings& settings) { return Value::scalar(access(settings)); };
  return key;
}

}  // namespace nearcached::config
