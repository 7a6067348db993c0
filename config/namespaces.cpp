#include "config/namespaces.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace nearcached::config {
namespace {

constexpr std::size_t kNamespacesMax = tiers::Policies::kNamespacesMax;

NamespaceField prefix_field() {
  NamespaceField field{"prefix", "1 to 1024 bytes, each prefix once", "", "What the keys begin with.", {}, {}};
  field.set = [](Namespace& own, const Value& value) -> Problem {
    std::string text;
    if (Problem problem = read_scalar(value, "text", text); !problem.text.empty()) return problem;
    if (text.empty()) return {"\"\" is every key, which is what coherence and l1 are for", value.line};
    if (text.size() > kPrefixBytesMax) return {describe(value) + " is longer than 1KB", value.line};
    own.prefix = std::move(text);
    return {};
  };
  field.print = [](const Namespace& own) { return own.prefix; };
  return field;
}

template <typename T, std::size_t N>
NamespaceField word_field(std::string_view name, const Words<T, N>& words, std::string_view otherwise,
                          std::string_view description, std::optional<T> Namespace::*member) {
  NamespaceField field{name, words_text(words), otherwise, description, {}, {}};
  field.set = [words, member](Namespace& own, const Value& value) -> Problem {
    T meaning{};
    if (Problem problem = read_word(words, value, meaning); !problem.text.empty()) return problem;
    own.*member = meaning;
    return {};
  };
  field.print = [words, member](const Namespace& own) {
    const auto& meaning = own.*member;
    return meaning ? std::string(word_of(words, *meaning)) : std::string{};
  };
  return field;
}

NamespaceField bytes_field(std::string_view name, Range range, std::string_view otherwise, std::string_view description,
                           std::optional<std::size_t> Namespace::*member) {
  NamespaceField field{name, allowed_text(Quantity::kBytes, range), otherwise, description, {}, {}};
  field.set = [range, member](Namespace& own, const Value& value) -> Problem {
    auto result = read_quantity(Quantity::kBytes, range, value);
    if (auto* problem = std::get_if<Problem>(&result)) return std::move(*problem);
    own.*member = std::get<std::uint64_t>(result);
    return {};
  };
  field.print = [range, member](const Namespace& own) {
    const auto& bytes = own.*member;
    return bytes ? format_quantity(Quantity::kBytes, range, *bytes) : std::string{};
  };
  return field;
}

NamespaceField duration_field(std::string_view name, Range range, std::string_view otherwise, std::string_view description,
                              std::optional<milliseconds> Namespace::*member) {
  NamespaceField field{name, allowed_text(Quantity::kDuration, range), otherwise, description, {}, {}};
  field.set = [range, member](Namespace& own, const Value& value) -> Problem {
    auto result = read_quantity(Quantity::kDuration, range, value);
    if (auto* problem = std::get_if<Problem>(&result)) return std::move(*problem);
    own.*member = milliseconds(std::get<std::uint64_t>(result));
    return {};
  };
  field.print = [range, member](const Namespace& own) {
    const auto& duration = own.*member;
    return duration ? format_quantity(Quantity::kDuration, range, to_number(*duration)) : std::string{};
  };
  return field;
}

std::string field_names() {
  std::string names;
  for (const NamespaceField& field : namespace_fields()) names += (names.empty() ? "" : ", ") + std::string(field.name);
  return names;
}

Problem unknown_field(const MapEntry& entry, std::string part) {
  std::vector<std::string_view> names;
  for (const NamespaceField& field : namespace_fields()) names.push_back(field.name);
  return {"unknown key " + describe(Value::scalar(entry.name)) + "; the nearest known key is " +
              std::string(nearest_word(entry.name, names)),
          entry.line, std::move(part), field_names()};
}

Problem read_namespace(const Value& value, const std::string& part, Namespace& own) {
  if (value.kind != Value::Kind::kMap) return {describe(value) + " is not a map", value.line, part, field_names()};
  const auto& fields = namespace_fields();
  for (const MapEntry& entry : value.entries) {
    const auto field =
        std::find_if(fields.begin(), fields.end(), [&](const NamespaceField& its) { return its.name == entry.name; });
    if (field == fields.end()) return unknown_field(entry, part);
    Problem problem = field->set(own, entry.value);
    if (problem.text.empty()) continue;
    problem.part = part + "." + entry.name;
    problem.allowed = field->allowed;
    return problem;
  }
  if (own.prefix.empty()) return {"has no prefix", value.line, part, field_names()};
  return {};
}

int line_of_prefix(const Value& map) {
  const auto found =
      std::find_if(map.entries.begin(), map.entries.end(), [](const MapEntry& entry) { return entry.name == "prefix"; });
  return found == map.entries.end() ? map.line : found->value.line;
}

Problem read_namespaces(const Value& value, std::vector<Namespace>& namespaces) {
  if (value.kind == Value::Kind::kNull) return {"has no value", value.line};
  if (value.kind != Value::Kind::kList) return {describe(value) + " is not a list of maps", value.line};
  if (value.items.size() > kNamespacesMax) {
    return {"the list is longer than " + std::to_string(kNamespacesMax), value.line};
  }
  for (const Value& item : value.items) {
    const std::string part = "[" + std::to_string(namespaces.size()) + "]";
    Namespace own;
    if (Problem problem = read_namespace(item, part, own); !problem.text.empty()) return problem;
    const auto same = std::find_if(namespaces.begin(), namespaces.end(),
                                   [&](const Namespace& other) { return other.prefix == own.prefix; });
    if (same != namespaces.end()) {
      return {describe(Value::scalar(own.prefix)) + " is given twice, before in namespaces[" +
                  std::to_string(same - namespaces.begin()) + "]",
              line_of_prefix(item), part + ".prefix", namespace_fields().front().allowed};
    }
    namespaces.push_back(std::move(own));
  }
  return {};
}

Value print_namespace(const Namespace& own) {
  Value map = Value::of(Value::Kind::kMap);
  for (const NamespaceField& field : namespace_fields()) {
    std::string text = field.print(own);
    if (!text.empty()) map.entries.push_back({std::string(field.name), 0, Value::scalar(std::move(text))});
  }
  return map;
}

}  // namespace

const std::vector<NamespaceField>& namespace_fields() {
  static const std::vector<NamespaceField> fields{
      prefix_field(),
      word_field("consistency", kConsistencyWords, "coherence.consistency",
                 "The level: what a hit of these keys must be proven to be.", &Namespace::consistency),
      duration_field("max_staleness", kMaxStaleness, "coherence.max_staleness",
                     "A hit was the upstream's value at some instant no longer ago than this.", &Namespace::max_staleness),
      duration_field(
          "max_stale", kMaxStale, "coherence.max_stale",
          "With stale_ok: how long after its last proof an entry may be served while its node can't be proven; its l1.ttl "
          "ends it sooner.",
          &Namespace::max_stale),
      duration_field("l1_ttl", kL1Ttl, "l1.ttl", "An entry lives at most this long, and never longer than its TTL upstream.",
                     &Namespace::l1_ttl),
      word_field("compression", kCompressionWords, "l1.compression.algorithm", "How these keys' replies are kept in L1.",
                 &Namespace::compression),
      bytes_field("compression_min_bytes", kCompressionMinBytes, "l1.compression.min_bytes",
                  "Smaller replies are kept plain.", &Namespace::compression_min_bytes),
      word_field("compression_dictionary", kBoolWords, "l1.compression.dictionary",
                 "With zstd: a dictionary of these keys' own, for replies of 64 bytes and more.",
                 &Namespace::compression_dictionary),
      word_field("durability", kDurabilityWords, "write_behind.durability",
                 "When a write of these keys is answered; what is not immediate needs write_behind.enabled.",
                 &Namespace::durability),
      word_field("write_priority", kPriorityWords, "write_behind.priority", "Among writes that wait to be flushed.",
                 &Namespace::write_priority),
  };
  return fields;
}

Key namespaces_key() {
  Key key;
  key.path = "namespaces";
  key.type = "list";
  key.allowed = "up to " + std::to_string(kNamespacesMax) + " maps of " + field_names() + ", each with a prefix of its own";
  key.description = "What differs for keys that begin with a prefix; the longest one counts.";
  key.text_form = TextForm::kYaml;
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
