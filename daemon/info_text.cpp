#include "daemon/info_text.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

namespace nearcached::daemon {
namespace {

constexpr std::string_view kHeading = "# Keyspace\r\n";

// A database's fields in the order of their first mention.
using Fields = std::vector<std::pair<std::string, std::uint64_t>>;
using Databases = std::map<std::uint64_t, Fields>;

std::uint64_t& value_of(Fields& fields, std::string_view name) {
  for (auto& [known, value] : fields) {
    if (known == name) return value;
  }
  return fields.emplace_back(name, 0).second;
}

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

void add_fields(Fields& sums, std::string_view text) {
  Fields fields;
  while (!text.empty()) {
    const std::string_view field = text.substr(0, text.find(','));
    text.remove_prefix(field.size() == text.size() ? text.size() : field.size() + 1);
    const std::size_t equals = field.find('=');
    if (equals != field.npos) value_of(fields, field.substr(0, equals)) = number(field.substr(equals + 1));
  }
  const std::uint64_t expire_before = value_of(sums, "expires");
  const std::uint64_t expire = value_of(fields, "expires");
  for (const auto& [name, value] : fields) {
    std::uint64_t& sum = value_of(sums, name);
    if (name != "avg_ttl") {
      sum += value;
    } else if (expire_before + expire != 0) {
      sum = static_cast<std::uint64_t>((static_cast<double>(sum) * static_cast<double>(expire_before) +
                                        static_cast<double>(value) * static_cast<double>(expire)) /
                                       static_cast<double>(expire_before + expire));
    }
  }
}

// Where the section's lines begin and end.
std::pair<std::size_t, std::size_t> section(std::string_view text) {
  const std::size_t heading = text.find(kHeading);
  if (heading == text.npos) return {text.size(), text.size()};
  const std::size_t begin = heading + kHeading.size();
  std::size_t end = begin;
  while (text.substr(end).starts_with("db")) {
    const std::size_t line_end = text.find("\r\n", end);
    end = line_end == text.npos ? text.size() : line_end + 2;
  }
  return {begin, end};
}

void add_databases(Databases& databases, std::string_view text) {
  const auto [begin, end] = section(text);
  std::string_view lines = text.substr(begin, end - begin);
  while (!lines.empty()) {
    const std::string_view line = lines.substr(0, lines.find("\r\n"));
    lines.remove_prefix(std::min(lines.size(), line.size() + 2));
    const std::size_t colon = line.find(':');
    if (colon == line.npos) continue;
    Fields& sums = databases[number(line.substr(2, colon - 2))];
    if (sums.empty()) sums = {{"keys", 0}, {"expires", 0}, {"avg_ttl", 0}};
    add_fields(sums, line.substr(colon + 1));
  }
}

}  // namespace

void replace_info_line(std::string& text, std::string_view name, std::string_view value) {
  const std::size_t at = text.find(name);
  if (at == std::string::npos) return;
  const std::size_t from = at + name.size();
  text.replace(from, text.find('\r', from) - from, value);
}

void merge_keyspaces(std::string& text, const std::vector<std::string>& others) {
  const auto [begin, end] = section(text);
  if (text.find(kHeading) == text.npos || others.empty()) return;
  Databases databases;
  add_databases(databases, text);
  for (const std::string& other : others) add_databases(databases, other);
  std::string lines;
  for (const auto& [database, fields] : databases) {
    lines += "db" + std::to_string(database);
    char before = ':';
    for (const auto& [name, value] : fields) {
      lines += std::exchange(before, ',');
      lines += name + "=" + std::to_string(value);
    }
    lines += "\r\n";
  }
  text.replace(begin, end - begin, lines);
}

}  // namespace nearcached::daemon
