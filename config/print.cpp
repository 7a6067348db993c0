#include "config/print.hpp"

#include <algorithm>

namespace nearcached::config {
namespace {

// Plain where no YAML reader could take it for anything else; null and its kin would be read as no value.
bool can_be_plain(std::string_view text) {
  if (text.empty() || text == "null" || text == "Null" || text == "NULL") return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
  });
}

std::string quoted(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7f) {
      result += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      result += c;
    }
  }
  return result + "\"";
}

// Written with a line for each.
bool is_list_of_maps(const Value& value) { return !value.items.empty() && value.items.front().kind == Value::Kind::kMap; }

}  // namespace

std::string yaml_text(const Value& value) {
  if (value.kind == Value::Kind::kScalar) return can_be_plain(value.text) ? value.text : quoted(value.text);
  const bool list = value.kind == Value::Kind::kList;
  std::string inner;
  for (const Value& item : value.items) {
    if (!inner.empty()) inner += ", ";
    inner += yaml_text(item);
  }
  for (const MapEntry& entry : value.entries) {
    if (!inner.empty()) inner += ", ";
    inner += entry.name + ": " + yaml_text(entry.value);
  }
  if (inner.empty()) return list ? "[]" : "{}";
  return list ? "[ " + inner + " ]" : "{ " + inner + " }";
}

std::string section_lines(std::string_view previous, std::string_view path) {
  std::string lines;
  for (std::size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.', dot + 1)) {
    const std::string_view section = path.substr(0, dot);
    if (previous.starts_with(path.substr(0, dot + 1))) continue;
    lines += indentation(section) + std::string(own_name(section)) + ":\n";
  }
  return lines;
}

std::string indentation(std::string_view path) {
  return std::string(2 * static_cast<std::size_t>(std::count(path.begin(), path.end(), '.')), ' ');
}

std::string_view own_name(std::string_view path) { return path.substr(path.rfind('.') + 1); }

std::string print_config(const Settings& settings) {
  std::string text;
  std::string_view previous;
  for (const Key& key : schema()) {
    const Value value = key.print(settings);
    text += section_lines(previous, key.path) + indentation(key.path) + std::string(own_name(key.path)) + ":";
    previous = key.path;
    if (!is_list_of_maps(value)) {
      text += " " + yaml_text(value) + "\n";
      continue;
    }
    text += "\n";
    for (const Value& item : value.items) text += indentation(key.path) + "  - " + yaml_text(item) + "\n";
  }
  return text;
}

}  // namespace nearcached::config
