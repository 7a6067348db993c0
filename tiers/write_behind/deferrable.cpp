#include "tiers/write_behind/deferrable.hpp"

#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "protocol/ascii_case.hpp"
#include "protocol/decimal.hpp"

namespace nearcached::tiers::write_behind {
namespace {

using protocol::equal_ignoring_case;
using Args = std::vector<std::string_view>;

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

struct Unit {
  bool seconds;
  bool absolute;
};

std::optional<Unit> unit_of(std::string_view option) {
  if (equal_ignoring_case(option, "ex")) return Unit{true, false};
  if (equal_ignoring_case(option, "px")) return Unit{false, false};
  if (equal_ignoring_case(option, "exat")) return Unit{true, true};
  if (equal_ignoring_case(option, "pxat")) return Unit{false, true};
  return std::nullopt;
}

// Unix milliseconds; nothing if Redis would refuse it.
std::optional<std::int64_t> deadline(std::string_view number, Unit unit, std::int64_t now_ms) {
  const auto value = protocol::parse_decimal(number);
  if (!value || *value <= 0 || (unit.seconds && *value > kMax / 1000)) return std::nullopt;
  const std::int64_t ms = unit.seconds ? *value * 1000 : *value;
  if (unit.absolute) return ms;
  if (ms > kMax - now_ms) return std::nullopt;
  return ms + now_ms;
}

WritePtr set_to(std::string_view value, std::int64_t expires_at_ms) {
  return std::make_shared<const Write>(Write{Write::Kind::kSet, std::string(value), expires_at_ms});
}

DeferrableWrite set(std::string_view key, std::string_view value, std::int64_t expires_at_ms) {
  return {key, set_to(value, expires_at_ms)};
}

const WritePtr& gone() {
  static const auto gone = std::make_shared<const Write>(Write{Write::Kind::kDelete, {}, 0});
  return gone;
}

std::optional<Unit> unit_of_expire(std::string_view command) {
  if (command == "expire") return Unit{true, false};
  if (command == "pexpire") return Unit{false, false};
  if (command == "expireat") return Unit{true, true};
  if (command == "pexpireat") return Unit{false, true};
  return std::nullopt;
}

// expireGenericCommand of Redis 7.0, which takes what lies in the past. Nothing if it would be refused.
std::optional<std::int64_t> any_deadline(std::string_view number, Unit unit, std::int64_t now_ms) {
  const auto value = protocol::parse_decimal(number);
  if (!value || (unit.seconds && (*value > kMax / 1000 || *value < -(kMax / 1000)))) return std::nullopt;
  const std::int64_t ms = unit.seconds ? *value * 1000 : *value;
  if (unit.absolute) return ms;
  if (ms > kMax - now_ms) return std::nullopt;
  return ms + now_ms;
}

std::optional<DependentWrite> expire(std::string_view number, Unit unit, const KnownKey& known, std::int64_t now_ms) {
  const auto at = any_deadline(number, unit, now_ms);
  if (known.pending == nullptr || !at) return std::nullopt;
  if (!known.exists) return DependentWrite{nullptr, 0};
  return DependentWrite{*at <= now_ms ? gone() : set_to(known.pending->value, *at), 1};
}

std::vector<DeferrableWrite> plain_set(const Args& args, std::int64_t now_ms) {
  if (args.size() == 3) return {set(args[1], args[2], 0)};
  if (args.size() != 5) return {};
  const auto unit = unit_of(args[3]);
  const auto at = unit ? deadline(args[4], *unit, now_ms) : std::nullopt;
  if (!at) return {};
  return {set(args[1], args[2], *at)};
}

std::vector<DeferrableWrite> set_for(const Args& args, bool seconds, std::int64_t now_ms) {
  if (args.size() != 4) return {};
  const auto at = deadline(args[2], {seconds, false}, now_ms);
  if (!at) return {};
  return {set(args[1], args[3], *at)};
}

std::vector<DeferrableWrite> set_many(const Args& args) {
  if (args.size() < 3 || args.size() % 2 == 0) return {};
  std::vector<DeferrableWrite> writes;
  writes.reserve(args.size() / 2);
  for (std::size_t at = 1; at < args.size(); at += 2) writes.push_back(set(args[at], args[at + 1], 0));
  return writes;
}

}  // namespace

std::vector<DeferrableWrite> deferrable_writes(std::string_view command, const Args& args, std::int64_t now_ms) {
  if (command == "set") return plain_set(args, now_ms);
  if (command == "setex") return set_for(args, true, now_ms);
  if (command == "psetex") return set_for(args, false, now_ms);
  if (command == "mset") return set_many(args);
  return {};
}

bool depends_on_key(std::string_view command, const Args& args) {
  if (command == "del" || command == "unlink") return args.size() == 2;
  if (command == "set") return args.size() == 4 && equal_ignoring_case(args[3], "keepttl");
  return args.size() == 3 && unit_of_expire(command);
}

std::optional<DependentWrite> dependent_write(std::string_view command, const Args& args, const KnownKey& known,
                                              std::int64_t now_ms) {
  if (!depends_on_key(command, args)) return std::nullopt;
  if (const auto unit = unit_of_expire(command)) return expire(args[2], *unit, known, now_ms);
  if (command == "set") {
    if (known.pending == nullptr) return std::nullopt;
    return DependentWrite{set_to(args[2], known.exists ? known.pending->expires_at_ms : 0), std::nullopt};
  }
  // What is pending and no longer exists will be gone by its own flush.
  const bool nothing_left = known.pending != nullptr && !known.exists;
  return DependentWrite{nothing_left ? nullptr : gone(), known.exists ? 1 : 0};
}

}  // namespace nearcached::tiers::write_behind
