#include "loadtest/versioned_values.hpp"

#include <algorithm>
#include <charconv>

namespace nearcached::loadtest {

namespace {

constexpr std::string_view kPrefix = "delay:";
constexpr std::uint64_t kElementsMax = 100'000;  // far above what is asked for: more is a broken stream

// The number at the start of `text` and what stands behind it.
template <typename Number>
bool take_number(std::string_view& text, Number& value) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  text.remove_prefix(static_cast<std::size_t>(parsed.ptr - text.data()));
  return parsed.ec == std::errc{};
}

struct Line {
  char type;
  std::int64_t length;  // of $ and aggregates
  std::size_t size;     // with its CRLF; 0: not complete
  bool bad;
};

Line line_at(std::string_view in) {
  const std::size_t end = in.find("\r\n");
  if (in.empty() || end == std::string_view::npos) {
    return {0, 0, 0, false};
  }
  Line line{in.front(), 0, end + 2, end == 0};
  if (std::string_view("$!=*~%>").find(line.type) != std::string_view::npos) {
    std::string_view digits = in.substr(1, end - 1);
    line.bad = line.bad || !take_number(digits, line.length) || !digits.empty() || line.length < -1;
  } else {
    line.bad = line.bad || std::string_view("+-:_,#(").find(line.type) == std::string_view::npos;
  }
  return line;
}

bool is_bulk(char type) { return type == '$' || type == '!' || type == '='; }

}  // namespace

std::string key_name(std::uint32_t key) { return std::string(kPrefix) + std::to_string(key); }

std::optional<std::uint32_t> parse_key(std::string_view name) {
  std::uint32_t key = 0;
  if (!name.starts_with(kPrefix)) {
    return std::nullopt;
  }
  name.remove_prefix(kPrefix.size());
  return take_number(name, key) && name.empty() ? std::optional(key) : std::nullopt;
}

std::string value_text(VersionedValue value, std::size_t bytes) {
  std::string text = std::to_string(value.key) + ":" + std::to_string(value.version) + ":";
  if (text.size() < bytes) {
    text.resize(bytes, 'v');
  }
  return text;
}

std::optional<VersionedValue> parse_value(std::string_view text) {
  VersionedValue value;
  if (!take_number(text, value.key) || !text.starts_with(':')) {
    return std::nullopt;
  }
  text.remove_prefix(1);
  return take_number(text, value.version) && text.starts_with(':') ? std::optional(value) : std::nullopt;
}

std::string command(std::initializer_list<std::string_view> words) {
  std::string out = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string_view word : words) {
    out += "$" + std::to_string(word.size()) + "\r\n";
    out += word;
    out += "\r\n";
  }
  return out;
}

Frame first_frame(std::string_view in) {
  constexpr Frame kIncomplete{Frame::State::kIncomplete, 0};
  constexpr Frame kMalformed{Frame::State::kMalformed, 0};
  std::size_t at = 0;
  // Elements still to come, of all open aggregates together: which one they belong to does not matter for the size.
  for (std::uint64_t left = 1; left > 0; --left) {
    const Line line = line_at(in.substr(at));
    if (line.bad || left > kElementsMax) {
      return kMalformed;
    }
    if (line.size == 0) {
      return kIncomplete;
    }
    at += line.size;
    if (line.length <= 0 && !(is_bulk(line.type) && line.length == 0)) {
      continue;
    }
    const auto length = static_cast<std::uint64_t>(line.length);
    if (is_bulk(line.type)) {
      if (length + 2 > in.size() - at) {
        return kIncomplete;
      }
      at += length + 2;
    } else if (length > kElementsMax) {
      return kMalformed;
    } else {
      left += line.type == '%' ? 2 * length : length;
    }
  }
  return {Frame::State::kComplete, at};
}

void for_each_bulk(std::string_view frame, const std::function<void(std::string_view)>& take) {
  while (!frame.empty()) {
    const Line line = line_at(frame);
    if (line.size == 0) {
      return;
    }
    frame.remove_prefix(line.size);
    if (is_bulk(line.type) && line.length >= 0) {
      const auto length = static_cast<std::size_t>(line.length);
      take(frame.substr(0, length));
      frame.remove_prefix(std::min(frame.size(), length + 2));
    }
  }
}

}  // namespace nearcached::loadtest
