// Who may do what: the deny list, and the users of the configuration.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "config/settings.hpp"
#include "protocol/command_table.hpp"

namespace nearcached::daemon {

// In a time that tells neither how long the secret is nor where the two part.
[[nodiscard]] bool same_secret(std::string_view given, std::string_view secret);

// A user as it is checked. Immutable.
struct LocalUser {
  using Digest = std::array<unsigned char, 32>;  // SHA-256
  struct Pattern {
    std::string glob;
    bool read_only = false;
  };

  std::string name;
  bool nopass = false;
  std::vector<Digest> passwords;
  std::unordered_set<const protocol::Command*> commands;  // of the table, that are allowed
  bool unlisted = false;                                  // those that are not in the table, too
  bool read_only = false;
  std::vector<Pattern> keys;
  std::vector<std::string> channels;
  tiers::upstream::Credentials upstream;
};

// Checked before L1 or the upstream is asked, so that L1 may be shared by users who are one user to the upstream. The rules
// are Redis's ACL rules, from left to right, the last that fits decides; what is not allowed is denied. Answers are Redis's
// own words.
//
// What it can't see: the commands of a script, which the upstream user decides about, and the keys that SORT's BY and GET
// make up. Passwords are compared as digests, all of them, in constant time; an unknown name costs the same work.
//
// Immutable after construction, so for all threads.
class Access {
 public:
  // Throws config::ConfigError: an unknown command or category, a hash that is none, a file that can't be read.
  explicit Access(const config::Settings& settings);

  // AUTH and HELLO are checked here.
  [[nodiscard]] bool has_users() const { return !users_.empty(); }
  // nullptr: no such user, or not that password.
  [[nodiscard]] const LocalUser* authenticate(std::string_view name, std::string_view password) const;
  // Whom a client is before AUTH: the user "default", if that needs no password.
  [[nodiscard]] const LocalUser* initial() const { return initial_; }
  // Of the deny list.
  [[nodiscard]] bool denied(const protocol::Command& command) const {
    return (denied_handlings_ & 1u << static_cast<unsigned>(command.handling)) != 0 && denied_.contains(&command);
  }
  // Whether `user` may not; the error, without '-'. nullptr is somebody who has not said who it is. `positions` is scratch.
  [[nodiscard]] std::string refusal(const LocalUser* user, const protocol::Command& command,
                                    const std::vector<std::string_view>& args, std::vector<std::uint32_t>& positions) const;

 private:
  std::vector<LocalUser> users_;
  const LocalUser* initial_ = nullptr;
  std::unordered_set<const protocol::Command*> denied_;
  std::uint32_t denied_handlings_ = 0;  // bits by Handling: what is of no other need not be looked up
};

}  // namespace nearcached::daemon
