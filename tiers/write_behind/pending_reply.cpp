#include "tiers/write_behind/pending_reply.hpp"

#include <algorithm>
#include <optional>

#include "protocol/decimal.hpp"

namespace nearcached::tiers::write_behind {
namespace {

using protocol::RespVersion;
using Args = std::vector<std::string_view>;

// getrangeCommand of Redis 7.0.
std::string_view range(std::string_view value, std::int64_t start, std::int64_t end) {
  const auto size = static_cast<std::int64_t>(value.size());
  if (start < 0 && end < 0 && start > end) return {};
  if (start < 0) start = std::max<std::int64_t>(start + size, 0);
  if (end < 0) end = std::max<std::int64_t>(end + size, 0);
  end = std::min(end, size - 1);
  if (start > end || size == 0) return {};
  return value.substr(static_cast<std::size_t>(start), static_cast<std::size_t>(end - start + 1));
}

bool append_range(std::string& out, const Args& args, std::string_view value) {
  if (args.size() != 4) return false;
  const auto start = protocol::parse_decimal(args[2]);
  const auto end = protocol::parse_decimal(args[3]);
  if (!start || !end) return false;
  protocol::append_bulk(out, range(value, *start, *end));
  return true;
}

// ttlGenericCommand of Redis 7.0; nothing if it is no such command.
std::optional<std::int64_t> time_told(std::string_view command, bool there, std::int64_t expires_at_ms,
                                      std::int64_t now_ms) {
  const bool ttl = command == "ttl" || command == "pttl";
  const bool seconds = command == "ttl" || command == "expiretime";
  if (!ttl && command != "expiretime" && command != "pexpiretime") return std::nullopt;
  if (!there) return -2;
  if (expires_at_ms == 0) return -1;
  const std::int64_t told_ms = ttl ? std::max<std::int64_t>(expires_at_ms - now_ms, 0) : expires_at_ms;
  return seconds ? told_ms / 1000 + (told_ms % 1000 >= 500 ? 1 : 0) : told_ms;
}

}  // namespace

bool append_pending_reply(std::string& out, std::string_view command, const Args& args, const Write& write,
                          std::int64_t now_ms, RespVersion version) {
  const bool there = write.there(now_ms);
  const std::string_view value = there ? std::string_view(write.value) : std::string_view();
  if (command == "getrange" || command == "substr") return append_range(out, args, value);
  if (args.size() != 2) return false;
  if (command == "get") {
    if (there) {
      protocol::append_bulk(out, value);
    } else {
      protocol::append_null(out, version);
    }
  } else if (command == "strlen") {
    protocol::append_integer(out, static_cast<std::int64_t>(value.size()));
  } else if (command == "exists") {
    protocol::append_integer(out, there ? 1 : 0);
  } else if (command == "type") {
    protocol::append_simple(out, there ? "string" : "none");
  } else if (const auto told = time_told(command, there, write.expires_at_ms, now_ms)) {
    protocol::append_integer(out, *told);
  } else {
    return false;
  }
  return true;
}

}  // namespace nearcached::tiers::write_behind
