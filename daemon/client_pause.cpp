#include "daemon/client_pause.hpp"

#include <algorithm>
#include <charconv>

#include "protocol/ascii_case.hpp"

namespace nearcached::daemon {

void ClientPause::begin(Kind kind, std::int64_t until_us, std::int64_t now_us) {
  const std::int64_t before_us = until_us_.load(std::memory_order_relaxed);
  const bool paused = before_us > now_us;
  all_.store(kind == Kind::kAll || (paused && all_.load(std::memory_order_relaxed)), std::memory_order_relaxed);
  until_us_.store(std::max(before_us, until_us), std::memory_order_relaxed);
}

std::string parse_client_pause(std::span<const std::string_view> args, PauseRequest& request) {
  if (args.size() > 4) {
    return "ERR unknown subcommand or wrong number of arguments for '" + std::string(args[1]) + "'. Try CLIENT HELP.";
  }
  request.kind = ClientPause::Kind::kAll;
  if (args.size() == 4) {
    if (protocol::equal_ignoring_case(args[3], "write")) {
      request.kind = ClientPause::Kind::kWrites;
    } else if (!protocol::equal_ignoring_case(args[3], "all")) {
      return "ERR CLIENT PAUSE mode must be WRITE or ALL";
    }
  }
  const auto [end, error] = std::from_chars(args[2].data(), args[2].data() + args[2].size(), request.timeout_ms);
  if (error != std::errc() || end != args[2].data() + args[2].size()) return "ERR timeout is not an integer or out of range";
  if (request.timeout_ms < 0) return "ERR timeout is negative";
  return {};
}

}  // namespace nearcached::daemon
