#include "daemon/monitor.hpp"

#include <cstdio>
#include <utility>

#include "daemon/secret_args.hpp"

namespace nearcached::daemon {
namespace {

constexpr std::int64_t kSecondUs = 1'000'000;

// As Redis's sdscatrepr.
void append_quoted(std::string& out, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '\\':
      case '"':
        out += '\\';
        out += c;
        break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\a': out += "\\a"; break;
      case '\b': out += "\\b"; break;
      default:
        if (c >= ' ' && c <= '~') {
          out += c;
        } else {
          const auto byte = static_cast<unsigned char>(c);
          out += "\\x";
          out += kHex[byte >> 4];
          out += kHex[byte & 15];
        }
    }
  }
  out += '"';
}

}  // namespace

void append_monitor_line(std::string& out, std::int64_t unix_us, std::uint32_t database, std::string_view address,
                         std::string_view name, std::span<const std::string_view> args) {
  char time[40];
  const int size = std::snprintf(time, sizeof time, "+%lld.%06lld [", static_cast<long long>(unix_us / kSecondUs),
                                 static_cast<long long>(unix_us % kSecondUs));
  out.append(time, static_cast<std::size_t>(size));
  out += std::to_string(database);
  out += ' ';
  out += address;
  out += ']';
  const bool secrets = may_have_secrets(name);
  for (std::size_t i = 0; i < args.size(); ++i) {
    out += ' ';
    const std::string_view arg = secrets && is_secret(name, args, i) ? kSecretShown : args[i];
    append_quoted(out, arg.substr(0, kMonitoredBytes));
    if (arg.size() > kMonitoredBytes) out += "... (" + std::to_string(arg.size() - kMonitoredBytes) + " more bytes)";
  }
  out += "\r\n";
}

MonitorFeed::Lines MonitorFeed::admit(std::string lines) {
  const std::size_t size = lines.size();
  if (bytes_.fetch_add(size, std::memory_order_relaxed) + size > kBytesMax) {
    bytes_.fetch_sub(size, std::memory_order_relaxed);
    dropped_bytes_.fetch_add(size, std::memory_order_relaxed);
    return nullptr;
  }
  return {new std::string(std::move(lines)), [this, size](const std::string* text) {
            delete text;
            bytes_.fetch_sub(size, std::memory_order_relaxed);
          }};
}

}  // namespace nearcached::daemon
