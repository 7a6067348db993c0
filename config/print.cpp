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

std::string print_config(const Settings& settings) {
  std::string text;
  std::string_view section;
  for (const Key& key : schema()) {
    const std::size_t dot = key.path.find('.');
    const std::string_view path(key.path);
    if (dot == std::string_view::npos) {
      text += key.path + ": ";
    } else {
      if (path.substr(0, dot) != section) {
        section = path.substr(0, dot);
        text += std::string(section) + ":\n";
      }
      text += "  " + std::string(path.substr(dot + 1)) + ": ";
    }
    text += yaml_text(key.print(settings)) + "\n";
  }
  return text;
}

}  // namespace nearcached::config
