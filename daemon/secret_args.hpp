// Which arguments of a command nobody else may see.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace nearcached::daemon {

// What is shown in their place, as Redis does it.
inline constexpr std::string_view kSecretShown = "(redacted)";

// Whether the argument at that place is a name or a password of AUTH, HELLO, MIGRATE, CONFIG SET or ACL SETUSER, or of one
// of these behind NEAR.UPSTREAM. `name` is the command's in the table ("config|set"), `args` has the name in front. More is
// hidden than Redis hides where a setting's name merely looks like a secret's: whoever set it knows it.
[[nodiscard]] bool is_secret(std::string_view name, std::span<const std::string_view> args, std::size_t at);

// One of these commands: else no argument is secret, and there is no need to ask.
[[nodiscard]] bool may_have_secrets(std::string_view name);

}  // namespace nearcached::daemon
