#include "daemon/secret_args.hpp"

#include <algorithm>
#include <array>

#include "protocol/ascii_case.hpp"

namespace nearcached::daemon {
namespace {

using protocol::ascii_lower;
using protocol::equal_ignoring_case;
using Args = std::span<const std::string_view>;

bool contains(std::string_view text, std::string_view part) {
  const auto same = [](char a, char b) { return ascii_lower(a) == b; };
  return std::search(text.begin(), text.end(), part.begin(), part.end(), same) != text.end();
}

// Behind `option` there are `values` secrets.
bool follows(Args args, std::size_t at, std::size_t from, std::string_view option, std::size_t values) {
  for (std::size_t back = 1; back <= values && at >= from + back; ++back) {
    if (equal_ignoring_case(args[at - back], option)) return true;
  }
  return false;
}

// The table's name of a command that may have secrets.
std::string_view guarded_name(Args args) {
  for (const std::string_view name : {"auth", "hello", "migrate"}) {
    if (!args.empty() && equal_ignoring_case(args[0], name)) return name;
  }
  const auto is = [&](std::string_view container, std::string_view subcommand) {
    return args.size() > 1 && equal_ignoring_case(args[0], container) && equal_ignoring_case(args[1], subcommand);
  };
  if (is("config", "set")) return "config|set";
  return is("acl", "setuser") ? "acl|setuser" : std::string_view();
}

bool names_a_secret(std::string_view setting) {
  return contains(setting, "pass") || contains(setting, "auth") || contains(setting, "user");
}

}  // namespace

bool may_have_secrets(std::string_view name) {
  constexpr std::array<std::string_view, 6> kCommands{"auth",       "hello",       "migrate",
                                                      "config|set", "acl|setuser", "near.upstream"};
  return std::find(kCommands.begin(), kCommands.end(), name) != kCommands.end();
}

bool is_secret(std::string_view name, Args args, std::size_t at) {
  if (name == "auth") return at >= 1;
  if (name == "hello") return follows(args, at, 2, "auth", 2);
  if (name == "migrate") return follows(args, at, 6, "auth", 1) || follows(args, at, 6, "auth2", 2);
  if (name == "config|set") return at >= 3 && at % 2 == 1 && names_a_secret(args[at - 1]);
  if (name == "acl|setuser") return at >= 2;
  constexpr std::size_t kNodeBefore = 2;  // NEAR.UPSTREAM node command ...
  if (name != "near.upstream" || at < kNodeBefore) return false;
  const Args inner = args.subspan(kNodeBefore);
  return is_secret(guarded_name(inner), inner, at - kNodeBefore);
}

}  // namespace nearcached::daemon
