#include "daemon/client_facts.hpp"

#include <algorithm>
#include <charconv>

#include "protocol/ascii_case.hpp"

namespace nearcached::daemon {
namespace {

using protocol::equal_ignoring_case;
using Type = ClientFilter::Type;

constexpr std::string_view kSyntaxError = "ERR syntax error";

std::optional<std::int64_t> number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string parse_type(std::string_view text, ClientFilter& filter) {
  if (equal_ignoring_case(text, "normal")) {
    filter.type = Type::kNormal;
  } else if (equal_ignoring_case(text, "pubsub")) {
    filter.type = Type::kPubsub;
  } else if (equal_ignoring_case(text, "slave") || equal_ignoring_case(text, "replica")) {
    filter.type = Type::kReplica;
  } else if (equal_ignoring_case(text, "master")) {
    filter.type = Type::kMaster;
  } else {
    return "ERR Unknown client type '" + std::string(text.substr(0, 128)) + "'";
  }
  return {};
}

std::string parse_kill_option(std::string_view name, std::string_view value, ClientFilter& filter) {
  if (equal_ignoring_case(name, "id")) {
    const auto id = number(value);
    if (!id || *id < 1) return "ERR client-id should be greater than 0";
    filter.ids = {static_cast<std::uint64_t>(*id)};
  } else if (equal_ignoring_case(name, "type")) {
    return parse_type(value, filter);
  } else if (equal_ignoring_case(name, "addr")) {
    filter.address = std::string(value);
  } else if (equal_ignoring_case(name, "laddr")) {
    filter.local_address = std::string(value);
  } else if (equal_ignoring_case(name, "user")) {
    filter.user = std::string(value);
  } else if (equal_ignoring_case(name, "maxage")) {
    const auto age = number(value);
    if (!age) return "ERR maxage is not an integer or out of range";
    if (*age <= 0) return "ERR maxage should be greater than 0";
    filter.min_age_s = *age;
  } else if (equal_ignoring_case(name, "skipme") && equal_ignoring_case(value, "yes")) {
    filter.skip_me = true;
  } else if (equal_ignoring_case(name, "skipme") && equal_ignoring_case(value, "no")) {
    filter.skip_me = false;
  } else {
    return std::string(kSyntaxError);
  }
  return {};
}

}  // namespace

std::string ClientFacts::line() const {
  std::string flags;
  if (monitors) flags += 'O';
  if (subscribes()) flags += 'P';
  if (queued) flags += 'x';
  if (blocked) flags += 'b';
  if (closing) flags += 'c';
  if (address == "unix") flags += 'U';
  if (flags.empty()) flags = "N";
  std::string text;
  const auto add = [&text](std::string_view key, std::string_view value) {
    text += text.empty() ? "" : " ";
    text += key;
    text += '=';
    text += value;
  };
  const auto add_number = [&add](std::string_view key, auto value) { add(key, std::to_string(value)); };
  add_number("id", id);
  add("addr", address);
  add("laddr", local_address);
  add_number("fd", fd);
  add("name", name);
  add_number("age", age_s);
  add_number("idle", idle_s);
  add("flags", flags);
  add_number("db", database);
  add_number("sub", channels);
  add_number("psub", patterns);
  add_number("ssub", shard_channels);
  add("multi", queued ? std::to_string(*queued) : "-1");
  add_number("qbuf", input_bytes);
  for (const char* absent : {"qbuf-free", "argv-mem", "multi-mem", "rbs", "rbp"}) add(absent, "0");
  add_number("obl", output_bytes);
  add_number("oll", replies);
  add_number("omem", reply_bytes);
  add_number("tot-mem", input_bytes + output_bytes + reply_bytes);
  add("events", output_bytes == 0 ? "r" : "rw");
  add("cmd", command.empty() ? std::string_view("NULL") : command);
  add("user", user);
  add("redir", "-1");
  add_number("resp", protocol);
  add("lib-name", library_name);
  add("lib-ver", library_version);
  return text + "\n";
}

bool ClientFilter::matches(const ClientFacts& client, std::uint64_t me) const {
  if (skip_me && client.id == me) return false;
  if (!ids.empty() && std::find(ids.begin(), ids.end(), client.id) == ids.end()) return false;
  if (address && *address != client.address) return false;
  if (local_address && *local_address != client.local_address) return false;
  if (user && *user != client.user) return false;
  if (min_age_s && client.age_s < *min_age_s) return false;
  return !type || *type == (client.subscribes() ? Type::kPubsub : Type::kNormal);
}

std::string parse_client_list(std::span<const std::string_view> args, ClientFilter& filter) {
  if (args.size() == 2) return {};
  if (args.size() == 4 && equal_ignoring_case(args[2], "type")) return parse_type(args[3], filter);
  if (args.size() < 4 || !equal_ignoring_case(args[2], "id")) return std::string(kSyntaxError);
  for (const std::string_view text : args.subspan(3)) {
    const auto id = number(text);
    if (!id) return "ERR Invalid client ID";
    filter.ids.push_back(static_cast<std::uint64_t>(*id));
  }
  return {};
}

std::string parse_client_kill(std::span<const std::string_view> args, ClientFilter& filter) {
  if (args.size() == 3) {
    filter.address = std::string(args[2]);
    filter.old_form = true;
    return {};
  }
  filter.skip_me = true;
  for (std::size_t at = 2; at < args.size(); at += 2) {
    if (at + 1 == args.size()) return std::string(kSyntaxError);
    if (std::string error = parse_kill_option(args[at], args[at + 1], filter); !error.empty()) return error;
  }
  return {};
}

}  // namespace nearcached::daemon
