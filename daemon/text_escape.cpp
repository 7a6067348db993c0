#include "daemon/text_escape.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace nearcached::daemon {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

struct CodePoint {
  std::uint32_t value = 0;
  std::size_t length = 1;  // bytes it took
  bool valid = false;
};

std::uint8_t byte_at(std::string_view text, std::size_t i) { return static_cast<std::uint8_t>(text[i]); }

// Decodes the first code point of a non-empty text; overlong forms, surrogates and values over U+10FFFF are not valid and
// take one byte, so that the decoder finds its way back at the next lead byte.
CodePoint decode(std::string_view text) {
  const std::uint8_t lead = byte_at(text, 0);
  if (lead < 0x80) return {lead, 1, true};
  std::size_t length = 0;
  std::uint32_t value = 0;
  std::uint32_t smallest = 0;
  if ((lead & 0xe0) == 0xc0) {
    length = 2, value = lead & 0x1fu, smallest = 0x80;
  } else if ((lead & 0xf0) == 0xe0) {
    length = 3, value = lead & 0x0fu, smallest = 0x800;
  } else if ((lead & 0xf8) == 0xf0) {
    length = 4, value = lead & 0x07u, smallest = 0x10000;
  }
  if (length == 0 || text.size() < length) return {};
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte_at(text, i) & 0xc0) != 0x80) return {};
    value = value << 6 | (byte_at(text, i) & 0x3fu);
  }
  if (value < smallest || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return {};
  return {value, length, true};
}

bool is_control(std::uint32_t c) { return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029; }

void append_u_escape(std::string& out, std::uint32_t value) {
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out += kHexDigits[value >> shift & 0xf];
}

void append_x_escape(std::string& out, std::uint8_t value) {
  out += "\\x";
  out += kHexDigits[value >> 4];
  out += kHexDigits[value & 0xf];
}

// The two-character escape of `c`, or 0.
char short_escape(std::uint32_t c) {
  switch (c) {
    case '"': return '"';
    case '\\': return '\\';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    default: return 0;
  }
}

bool is_bare(char c) {
  const bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  return alphanumeric || std::string_view("-_.:/,+@%[]*#()<>").find(c) != std::string_view::npos;
}

// Appends the inside of a quoted string; `append_wrong_byte` says how a byte that is not UTF-8 appears.
template <typename AppendWrongByte>
void append_escaped(std::string& out, std::string_view text, AppendWrongByte append_wrong_byte) {
  while (!text.empty()) {
    const CodePoint c = decode(text);
    if (!c.valid) {
      append_wrong_byte(out, byte_at(text, 0));
    } else if (const char escape = short_escape(c.value); escape != 0) {
      out += '\\';
      out += escape;
    } else if (is_control(c.value)) {
      append_u_escape(out, c.value);
    } else {
      out += text.substr(0, c.length);
    }
    text.remove_prefix(c.length);
  }
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  append_escaped(out, text, [](std::string& to, std::uint8_t) { to += "\\ufffd"; });
  out += '"';
}

void append_log_value(std::string& out, std::string_view text) {
  if (!text.empty() && std::all_of(text.begin(), text.end(), is_bare)) {
    out += text;
    return;
  }
  out += '"';
  append_escaped(out, text, append_x_escape);
  out += '"';
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const CodePoint c = decode(text);
    if (!c.valid || is_control(c.value)) {
      out += '?';
    } else {
      out += text.substr(0, c.length);
    }
    text.remove_prefix(c.length);
  }
  return out;
}

std::string html_escape(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

}  // namespace nearcached::daemon
