#include "daemon/own_settings.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "config/print.hpp"
#include "config/schema.hpp"
#include "protocol/ascii_case.hpp"

namespace nearcached::daemon {
namespace {

using protocol::ascii_lower;

constexpr std::size_t kPatternMax = 256;

// `at` stands behind '['; moves behind the class. A class that does not end ends with the pattern.
template <class Fold>
bool class_contains(std::string_view pattern, std::size_t& at, char c, Fold fold) {
  const bool negated = at < pattern.size() && pattern[at] == '^';
  if (negated) ++at;
  bool found = false;
  while (at < pattern.size() && pattern[at] != ']') {
    if (pattern[at] == '\\' && at + 1 < pattern.size()) {
      found |= fold(pattern[++at]) == c;
      ++at;
    } else if (at + 2 < pattern.size() && pattern[at + 1] == '-') {
      const auto [low, high] = std::minmax({fold(pattern[at]), fold(pattern[at + 2])});
      found |= c >= low && c <= high;
      at += 3;
    } else {
      found |= fold(pattern[at++]) == c;
    }
  }
  if (at < pattern.size()) ++at;
  return found != negated;
}

// One character of the pattern that is not '*'; moves behind it.
template <class Fold>
bool step_matches(std::string_view pattern, std::size_t& at, char c, Fold fold) {
  const char wanted = pattern[at++];
  if (wanted == '?') return true;
  if (wanted == '[') return class_contains(pattern, at, c, fold);
  if (wanted == '\\' && at < pattern.size()) return fold(pattern[at++]) == c;
  return fold(wanted) == c;
}

}  // namespace

bool glob_matches(std::string_view pattern, std::string_view text, Letters letters) {
  const auto fold = [letters](char c) { return letters == Letters::kAlike ? ascii_lower(c) : c; };
  std::size_t at = 0;
  std::size_t star = std::string_view::npos;  // behind the last '*', and what it has taken up to
  std::size_t taken = 0;
  for (std::size_t i = 0; i < text.size();) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = ++at;
      taken = i;
      continue;
    }
    std::size_t next = at;
    if (at < pattern.size() && step_matches(pattern, next, fold(text[i]), fold)) {
      at = next;
      ++i;
      continue;
    }
    if (star == std::string_view::npos) return false;
    at = star;
    i = ++taken;
  }
  return pattern.find_first_not_of('*', at) == std::string_view::npos;
}

std::string with_own_settings(std::string upstream_reply, std::span<const std::string_view> patterns,
                              const config::Settings& settings) {
  const char type = upstream_reply.empty() ? '-' : upstream_reply.front();
  const std::size_t line_end = upstream_reply.find("\r\n");
  if ((type != '*' && type != '%') || line_end == std::string::npos) return upstream_reply;
  std::int64_t count = 0;
  const auto parsed = std::from_chars(upstream_reply.data() + 1, upstream_reply.data() + line_end, count);
  if (parsed.ec != std::errc() || count < 0) return upstream_reply;
  std::string pairs;
  for (const config::Key& key : config::schema()) {
    const std::string name = std::string(kSettingPrefix) + key.path;
    const bool wanted = std::any_of(patterns.begin(), patterns.end(), [&](std::string_view pattern) {
      return pattern.size() <= kPatternMax && glob_matches(pattern, name);
    });
    if (!wanted) continue;
    const config::Value value = key.print(settings);
    protocol::append_bulk(pairs, name);
    protocol::append_bulk(pairs, value.kind == config::Value::Kind::kScalar ? value.text : config::yaml_text(value));
    count += type == '%' ? 1 : 2;
  }
  std::string reply;
  protocol::append_header(reply, type, count);
  reply.append(upstream_reply, line_end + 2);
  return reply + pairs;
}

std::string_view own_setting_named(std::span<const std::string_view> args) {
  for (std::size_t at = 2; at < args.size(); at += 2) {
    const std::string_view name = args[at];
    if (protocol::equal_ignoring_case(name.substr(0, kSettingPrefix.size()), kSettingPrefix)) return name;
  }
  return {};
}

}  // namespace nearcached::daemon
