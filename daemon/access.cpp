#include "daemon/access.hpp"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "config/config_error.hpp"
#include "config/upstream_url.hpp"
#include "daemon/own_settings.hpp"
#include "protocol/ascii_case.hpp"

namespace nearcached::daemon {

using config::ConfigError;
using protocol::Command;

namespace {

constexpr std::string_view kOnlyRead = "%R~";

LocalUser::Digest digest_of(std::string_view password) {
  LocalUser::Digest digest{};
  SHA256(reinterpret_cast<const unsigned char*>(password.data()), password.size(), digest.data());
  return digest;
}

std::optional<LocalUser::Digest> parse_digest(std::string_view text) {
  LocalUser::Digest digest{};
  if (text.size() != 2 * digest.size()) return std::nullopt;
  for (std::size_t i = 0; i < digest.size(); ++i) {
    const char* at = text.data() + 2 * i;
    const auto [end, error] = std::from_chars(at, at + 2, digest[i], 16);
    if (error != std::errc() || end != at + 2) return std::nullopt;
  }
  return digest;
}

template <class Visit>
void for_each_command(Visit visit) {
  for (const Command& command : protocol::all_commands()) {
    visit(command);
    for (const Command& subcommand : command.subcommands) visit(subcommand);
  }
}

const Command* named(std::string_view name) {
  const std::size_t bar = name.find('|');
  const Command* command = protocol::find_command(name.substr(0, bar));
  if (command == nullptr || bar == name.npos) return command;
  return protocol::find_subcommand(*command, name.substr(bar + 1));
}

// A container stands for all that it contains.
void set(std::unordered_set<const Command*>& commands, const Command& command, bool allowed) {
  const auto one = [&](const Command& its) { allowed ? void(commands.insert(&its)) : void(commands.erase(&its)); };
  one(command);
  for (const Command& subcommand : command.subcommands) one(subcommand);
}

std::string apply_rule(LocalUser& user, std::string_view rule) {
  if (rule == "allcommands") rule = "+@all";
  if (rule == "nocommands") rule = "-@all";
  if (rule.size() < 2 || (rule.front() != '+' && rule.front() != '-')) return "is no rule; allowed: +command, -@category";
  const bool allowed = rule.front() == '+';
  std::string_view name = rule.substr(1);
  if (name.front() != '@') {
    const Command* command = named(name);
    if (command == nullptr) return "names a command that is not known; allowed: those of docs/commands.md";
    set(user.commands, *command, allowed);
    return {};
  }
  name.remove_prefix(1);
  if (name == "all") {
    user.unlisted = allowed;
    for_each_command([&](const Command& command) { set(user.commands, command, allowed); });
    return {};
  }
  const auto* const category = std::find(std::begin(protocol::kCategories), std::end(protocol::kCategories), name);
  if (category == std::end(protocol::kCategories)) return "names a category that is not known; allowed: those of ACL CAT";
  const std::uint32_t bit = 1u << (category - std::begin(protocol::kCategories));
  for_each_command([&](const Command& command) {
    if ((command.categories & bit) != 0) set(user.commands, command, allowed);
  });
  return {};
}

LocalUser compiled(const config::User& from, const config::Upstream& upstream) {
  LocalUser user;
  const std::string where = "users: " + from.name + ": ";
  user.name = from.name;
  user.nopass = from.nopass;
  user.read_only = from.read_only;
  user.channels = from.channels;
  user.upstream = config::resolved_credentials(from, upstream);
  for (const std::string& hash : from.password_hashes) {
    const auto digest = parse_digest(hash);
    if (!digest) throw ConfigError(where + "password_hashes: one is no SHA-256 digest; allowed: 64 hexadecimal digits");
    user.passwords.push_back(*digest);
  }
  for (const std::string& password : config::resolved_passwords(from)) user.passwords.push_back(digest_of(password));
  for (const std::string& rule : from.commands) {
    if (const std::string problem = apply_rule(user, rule); !problem.empty()) {
      throw ConfigError(where + "commands: \"" + rule + "\" " + problem);
    }
  }
  for (std::string_view pattern : from.keys) {
    const bool only_read = pattern.starts_with(kOnlyRead);
    if (only_read) {
      pattern.remove_prefix(kOnlyRead.size());
    } else if (pattern.starts_with('%')) {
      throw ConfigError(where + "keys: \"" + std::string(pattern) + "\" is no pattern; allowed: app:*, %R~app:*");
    } else if (pattern.starts_with('~')) {
      pattern.remove_prefix(1);
    }
    user.keys.push_back({std::string(pattern), only_read});
  }
  return user;
}

bool key_allowed(const LocalUser& user, std::string_view key, bool writes) {
  return std::any_of(user.keys.begin(), user.keys.end(), [&](const LocalUser::Pattern& pattern) {
    return (!writes || !pattern.read_only) && glob_matches(pattern.glob, key, Letters::kDiffer);
  });
}

// As Redis: a pattern that is subscribed to has to be one of the user's, letter by letter.
bool channel_allowed(const LocalUser& user, std::string_view channel, bool is_pattern) {
  return std::any_of(user.channels.begin(), user.channels.end(), [&](const std::string& own) {
    return own == "*" || own == channel || (!is_pattern && glob_matches(own, channel, Letters::kDiffer));
  });
}

bool channels_allowed(const LocalUser& user, const Command& command, const std::vector<std::string_view>& args) {
  const std::string_view name = command.name;
  const bool one = name == "publish" || name == "spublish";
  if (!one && name != "subscribe" && name != "psubscribe" && name != "ssubscribe") return true;
  const std::size_t end = one ? std::min<std::size_t>(2, args.size()) : args.size();
  for (std::size_t i = 1; i < end; ++i) {
    if (!channel_allowed(user, args[i], name == "psubscribe")) return false;
  }
  return true;
}

bool is_channel_command(const Command& command) {
  return command.name == "spublish" || command.name == "ssubscribe" || command.name == "sunsubscribe";
}

}  // namespace

bool same_secret(std::string_view given, std::string_view secret) {
  const LocalUser::Digest one = digest_of(given);
  const LocalUser::Digest other = digest_of(secret);
  return CRYPTO_memcmp(one.data(), other.data(), one.size()) == 0;
}

Access::Access(const config::Settings& settings) {
  for (const std::string& name : settings.security.deny_commands) {
    const Command* command = named(name);
    if (command == nullptr) {
      throw ConfigError("security.deny_commands: \"" + name +
                        "\" is not a command that is known; allowed: those of docs/commands.md");
    }
    set(denied_, *command, true);
  }
  for (const Command* command : denied_) denied_handlings_ |= 1u << static_cast<unsigned>(command->handling);
  for (const config::User& user : settings.users) users_.push_back(compiled(user, settings.upstream));
  for (const LocalUser& user : users_) {
    if (user.name == "default" && user.nopass) initial_ = &user;
  }
}

const LocalUser* Access::authenticate(std::string_view name, std::string_view password) const {
  const LocalUser::Digest digest = digest_of(password);
  const LocalUser* found = nullptr;
  for (const LocalUser& user : users_) {
    bool fits = user.nopass;
    for (const LocalUser::Digest& own : user.passwords) fits |= CRYPTO_memcmp(own.data(), digest.data(), own.size()) == 0;
    if (fits && user.name == name) found = &user;
  }
  return found;
}

std::string Access::refusal(const LocalUser* user, const Command& command, const std::vector<std::string_view>& args,
                            std::vector<std::uint32_t>& positions) const {
  const std::string_view name = command.name;
  if (name == "auth" || name == "hello" || name == "quit" || name == "reset") return {};
  if (user == nullptr) return "NOAUTH Authentication required.";
  const Command* listed = named(name);
  const bool allowed = listed != nullptr ? user->commands.contains(listed) : user->unlisted;
  const bool writes = protocol::may_write(command);
  if (!allowed || (user->read_only && writes && !command.has(protocol::kFlagChangesNoKey))) {
    return "NOPERM this user has no permissions to run the '" + std::string(name) + "' command";
  }
  if (!channels_allowed(*user, command, args)) {
    return "NOPERM this user has no permissions to access one of the channels used as arguments";
  }
  if (is_channel_command(command) || !protocol::extract_keys(command, args, positions)) return {};
  const bool keys_fit = std::all_of(positions.begin(), positions.end(),
                                    [&](std::uint32_t at) { return key_allowed(*user, args[at], writes); });
  if (!keys_fit) return "NOPERM this user has no permissions to access one of the keys used as arguments";
  return {};
}

}  // namespace nearcached::daemon
