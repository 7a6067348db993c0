#include "tiers/upstream/greeting.hpp"

#include <string_view>

namespace nearcached::tiers::upstream {

std::vector<std::string> greeting(const Identity& identity, protocol::RespVersion version) {
  const Credentials& who = identity.credentials;
  std::vector<std::vector<std::string_view>> commands;
  const std::string database_text = std::to_string(identity.database);
  const std::string_view user = who.user.empty() ? std::string_view("default") : std::string_view(who.user);
  if (version == protocol::RespVersion::kResp3) {
    commands.push_back({"HELLO", "3"});
    if (!who.empty()) commands.back().insert(commands.back().end(), {"AUTH", user, who.password});
  } else if (!who.empty()) {
    commands.push_back({"AUTH", who.password});
    if (!who.user.empty()) commands.back().insert(commands.back().begin() + 1, user);
  }
  if (identity.database != 0) commands.push_back({"SELECT", database_text});
  std::vector<std::string> encoded;
  for (const auto& command : commands) protocol::append_command(encoded.emplace_back(), command);
  return encoded;
}

}  // namespace nearcached::tiers::upstream
