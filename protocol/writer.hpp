// Appends RESP to anything with append(const char*, size_t): std::string, io::Buffer.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace nearcached::protocol {

enum class RespVersion : std::uint8_t { kResp2 = 2, kResp3 = 3 };

template <class Sink>
void append_text(Sink& out, std::string_view text) {
  out.append(text.data(), text.size());
}

// A header line such as "$12\r\n", "*3\r\n", ":-7\r\n".
template <class Sink>
void append_header(Sink& out, char type, std::int64_t n) {
  char line[32];
  line[0] = type;
  char* end = std::to_chars(line + 1, line + sizeof line - 2, n).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append(line, static_cast<std::size_t>(end - line));
}

template <class Sink>
void append_integer(Sink& out, std::int64_t n) {
  append_header(out, ':', n);
}

template <class Sink>
void append_bulk(Sink& out, std::string_view text) {
  append_header(out, '$', static_cast<std::int64_t>(text.size()));
  out.append(text.data(), text.size());
  out.append("\r\n", 2);
}

template <class Sink>
void append_simple(Sink& out, std::string_view text) {
  out.append("+", 1);
  out.append(text.data(), text.size());
  out.append("\r\n", 2);
}

// `text` starts with the error's code, "ERR ..." or "MOVED ...". CR and LF in it become spaces: an error is one line.
template <class Sink>
void append_error(Sink& out, std::string_view text) {
  out.append("-", 1);
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t bad = text.find_first_of("\r\n", from);
    const std::size_t end = bad == std::string_view::npos ? text.size() : bad;
    out.append(text.data() + from, end - from);
    if (bad != std::string_view::npos) out.append(" ", 1);
    from = end + 1;
  }
  out.append("\r\n", 2);
}

template <class Sink>
void append_null(Sink& out, RespVersion version) {
  append_text(out, version == RespVersion::kResp3 ? std::string_view("_\r\n") : std::string_view("$-1\r\n"));
}

// A request: array of bulk strings.
template <class Sink, class Args>
void append_command(Sink& out, const Args& args) {
  append_header(out, '*', static_cast<std::int64_t>(args.size()));
  for (const auto& arg : args) append_bulk(out, std::string_view(arg));
}

template <class Sink>
void append_command(Sink& out, std::initializer_list<std::string_view> args) {
  append_command<Sink, std::initializer_list<std::string_view>>(out, args);
}

}  // namespace nearcached::protocol
