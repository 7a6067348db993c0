// A JSON checker with no leniency at all: what it takes, every JSON parser takes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace nearcached::daemon::testing {

// Parses one document (RFC 8259) and flattens it: "l1.bytes" -> "12", "nodes[0].endpoint" -> "host:1". Strings are decoded,
// numbers and literals kept as they stand. Raw control characters, duplicate names, bad escapes, invalid UTF-8, leading
// zeros, trailing commas and trailing text are errors; nesting is bounded.
class StrictJson {
 public:
  static std::optional<std::map<std::string, std::string>> parse(std::string_view text) {
    StrictJson json(text);
    json.space();
    if (!json.value("", 0)) return std::nullopt;
    json.space();
    if (!json.text_.empty()) return std::nullopt;
    return json.values_;
  }

 private:
  static constexpr int kDepthMax = 16;

  explicit StrictJson(std::string_view text) : text_(text) {}

  void space() {
    while (!text_.empty() && std::string_view(" \t\r\n").find(text_.front()) != std::string_view::npos)
      text_.remove_prefix(1);
  }
  bool take(char c) {
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  bool store(const std::string& path, std::string_view found) { return values_.emplace(path, found).second; }

  bool value(const std::string& path, int depth) {
    if (text_.empty() || depth > kDepthMax) return false;
    if (text_.front() == '{') return object(path, depth);
    if (text_.front() == '[') return array(path, depth);
    if (text_.front() == '"') {
      const auto found = string();
      return found && store(path, *found);
    }
    for (const std::string_view literal : {"true", "false", "null"}) {
      if (text_.substr(0, literal.size()) != literal) continue;
      text_.remove_prefix(literal.size());
      return store(path, literal);
    }
    return number(path);
  }

  bool object(const std::string& path, int depth) {
    take('{');
    space();
    if (take('}')) return true;
    do {
      space();
      const auto name = string();
      space();
      if (!name || !take(':')) return false;
      space();
      if (!value(path.empty() ? *name : path + "." + *name, depth + 1)) return false;
      space();
    } while (take(','));
    return take('}');
  }

  bool array(const std::string& path, int depth) {
    take('[');
    space();
    if (take(']')) return true;
    int index = 0;
    do {
      space();
      if (!value(path + "[" + std::to_string(index++) + "]", depth + 1)) return false;
      space();
    } while (take(','));
    return take(']');
  }

  bool number(const std::string& path) {
    const std::string_view start = text_;
    take('-');
    if (!take('0') && digits() == 0) return false;
    if (take('.') && digits() == 0) return false;
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      if (digits() == 0) return false;
    }
    return store(path, start.substr(0, start.size() - text_.size()));
  }
  int digits() {
    int n = 0;
    for (; !text_.empty() && text_.front() >= '0' && text_.front() <= '9'; ++n) text_.remove_prefix(1);
    return n;
  }

  std::optional<std::string> string() {
    if (!take('"')) return std::nullopt;
    std::string out;
    while (!text_.empty()) {
      const auto c = static_cast<unsigned char>(text_.front());
      if (c == '"') return text_.remove_prefix(1), out;
      if (c < 0x20) return std::nullopt;
      if (c == '\\' ? !escape(out) : !raw(out)) return std::nullopt;
    }
    return std::nullopt;
  }

  bool escape(std::string& out) {
    take('\\');
    if (text_.empty()) return false;
    constexpr std::string_view kNames = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    const char name = text_.front();
    text_.remove_prefix(1);
    if (const std::size_t at = kNames.find(name); at != std::string_view::npos) return out += kMeanings[at], true;
    if (name != 'u' || text_.size() < 4) return false;
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      const std::size_t digit = std::string_view("0123456789abcdef").find(text_.front());
      if (digit == std::string_view::npos) return false;
      code = code << 4 | static_cast<std::uint32_t>(digit);
      text_.remove_prefix(1);
    }
    if (code >= 0xd800 && code <= 0xdfff) return false;  // this project never writes surrogates
    append_utf8(out, code);
    return true;
  }

  static void append_utf8(std::string& out, std::uint32_t code) {
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xc0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 0x3f));
    } else {
      out += static_cast<char>(0xe0 | code >> 12);
      out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
      out += static_cast<char>(0x80 | (code & 0x3f));
    }
  }

  // One code point; lengths by the lead byte's well-formed ranges (Unicode, table 3-7).
  bool raw(std::string& out) {
    const auto at = [&](std::size_t i) { return i < text_.size() ? static_cast<unsigned char>(text_[i]) : 0u; };
    const unsigned lead = at(0);
    std::size_t length = 1;
    unsigned low = 0x80, high = 0xbf;
    if (lead >= 0x80) {
      if (lead < 0xc2 || lead > 0xf4) return false;
      length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
      if (at(1) < low || at(1) > high) return false;
      for (std::size_t i = 2; i < length; ++i) {
        if (at(i) < 0x80 || at(i) > 0xbf) return false;
      }
    }
    out += text_.substr(0, length);
    text_.remove_prefix(length);
    return true;
  }

  std::string_view text_;
  std::map<std::string, std::string> values_;
};

}  // namespace nearcached::daemon::testing
