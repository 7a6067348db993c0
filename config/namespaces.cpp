#include "config/namespaces.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "config/key_types.hpp"

namespace nearcached::config {
namespace {

constexpr std::size_t kPrefixMax = 1024;
constexpr std::uint64_t kMinute = 60'000;
constexpr std::uint64_t kDay = 24 * 60 * kMinute;
constexpr Range kMaxStaleness{.min = 30, .max = kMinute};
constexpr Range kMaxStale{.min = 1, .max = 7 * kDay};
constexpr Range kL1Ttl{.min = 1, .max = 7 * kDay};
constexpr std::string_view kNames = "prefix, consistency, max_staleness, max_stale, l1_ttl";
constexpr std::pair<std::string_view, tiers::Consistency> kLevels[] = {
    {"strict", tiers::Consistency::kStrict},
    {"causal", tiers::Consistency::kCausal},
    {"bounded", tiers::Consistency::kBounded},
    {"stale_ok", tiers::Consistency::kStaleOk},
};

Problem read_duration(const Value& value, const Range& range, std::optional<milliseconds>& duration) {
  auto result = read_quantity(Quantity::kDuration, range, value);
  if (auto* problem = std::get_if<Problem>(&result)) {
    problem->text += "; allowed: " + allowed_text(Quantity::kDuration, range);
    return std::move(*problem);
  }
  duration = milliseconds(std::get<std::uint64_t>(result));
  return {};
}

Problem read_prefix(const Value& value, std::string& prefix) {
  if (Problem problem = read_scalar(value, "text", prefix); !problem.text.empty()) return problem;
  if (prefix.empty()) return {"is empty: keys without a namespace are set under coherence and l1", value.line};
  if (prefix.size() > kPrefixMax) return {describe(value) + " is longer than 1KB", value.line};
  return {};
}

Problem read_consistency(const Value& value, std::optional<tiers::Consistency>& consistency) {
  std::string text;
  if (Problem problem = read_scalar(value, "a level", text); !problem.text.empty()) return problem;
  for (const auto& [word, level] : kLevels) {
    if (text == word) consistency = level;
  }
  if (consistency) return {};
  return {describe(value) + " is not strict, causal, bounded or stale_ok", value.line};
}

Problem read_entry(const MapEntry& entry, Namespace& own) {
  if (entry.name == "prefix") return read_prefix(entry.value, own.prefix);
  if (entry.name == "consistency") return read_consistency(entry.value, own.consistency);
  if (entry.name == "max_staleness") return read_duration(entry.value, kMaxStaleness, own.max_staleness);
  if (entry.name == "max_stale") return read_duration(entry.value, kMaxStale, own.max_stale);
  if (entry.name == "l1_ttl") return read_duration(entry.value, kL1Ttl, own.l1_ttl);
  return {"is unknown; known: " + std::string(kNames), entry.line};
}

Problem read_namespace(const Value& value, Namespace& own) {
  if (value.kind != Value::Kind::kMap) return {describe(value) + " is not a map with " + std::string(kNames), value.line};
  for (auto entry = value.entries.begin(); entry != value.entries.end(); ++entry) {
    const bool twice = std::any_of(value.entries.begin(), entry, [&](const MapEntry& e) { return e.name == entry->name; });
    Problem problem = twice ? Problem{"is given twice", entry->line} : read_entry(*entry, own);
    if (problem.text.empty()) continue;
    return {"\"" + entry->name + "\": " + problem.text, problem.line != 0 ? problem.line : entry->line};
  }
  if (own.prefix.empty()) return {"a namespace has no prefix", value.line};
  return {};
}

Problem read_namespaces(const Value& value, std::vector<Namespace>& namespaces) {
  if (value.kind == Value::Kind::kNull) return {};
  if (value.kind != Value::Kind::kList)
    return {describe(value) + " is not a list: the file is the place for it", value.line};
  if (value.items.size() > tiers::Policies::kNamespacesMax) {
    return {"there are more than " + std::to_string(tiers::Policies::kNamespacesMax), value.line};
  }
  for (const Value& item : value.items) {
    Namespace own;
    if (Problem problem = read_namespace(item, own); !problem.text.empty()) return problem;
    const bool known = std::any_of(namespaces.begin(), namespaces.end(),
                                   [&](const Namespace& other) { return other.prefix == own.prefix; });
    if (known) return {"prefix \"" + own.prefix + "\" is listed twice", item.line};
    namespaces.push_back(std::move(own));
  }
  return {};
}

Value print_namespace(const Namespace& own) {
  Value map = Value::of(Value::Kind::kMap);
  const auto add = [&](std::string_view name, std::string text) {
    map.entries.push_back({std::string(name), 0, Value::scalar(std::move(text))});
  };
  add("prefix", own.prefix);
  for (const auto& [word, level] : kLevels) {
    if (own.consistency == level) add("consistency", std::string(word));
  }
  if (own.max_staleness) add("max_staleness", format_duration(*own.max_staleness));
  if (own.max_stale) add("max_stale", format_duration(*own.max_stale));
  if (own.l1_ttl) add("l1_ttl", format_duration(*own.l1_ttl));
  return map;
}

}  // namespace

Key namespaces_key() {
  Key key;
  key.path = "namespaces";
  key.type = "list";
  key.allowed = "up to 1024 maps with prefix, and any of consistency, max_staleness, max_stale, l1_ttl; in the file";
  key.description = "What holds for keys that begin with a prefix; the longest one counts.";
  key.set = [](Settings& settings, const Value& value) -> Problem {
    std::vector<Namespace> namespaces;
    if (Problem problem = read_namespaces(value, namespaces); !problem.text.empty()) return problem;
    settings.namespaces = std::move(namespaces);
    return {};
  };
  key.print = [](const Settings& settings) {
    Value list = Value::of(Value::Kind::kList);
    for (const Namespace& own : settings.namespaces) list.items.push_back(print_namespace(own));
    return list;
  };
  return key;
}

}  // namespace nearcached::config
