#include "config/environment.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "config/loader.hpp"

namespace nearcached::config {
namespace {

constexpr std::array<std::string_view, 3> kProtocols{"TCP", "UDP", "SCTP"};

// "6380_TCP", "6380_TCP_ADDR" and the like: what follows "_PORT_".
bool is_port_suffix(std::string_view suffix) {
  const std::size_t digits = std::min(suffix.find_first_not_of("0123456789"), suffix.size());
  if (digits == 0 || digits == suffix.size() || suffix[digits] != '_') return false;
  suffix.remove_prefix(digits + 1);
  for (const std::string_view protocol : kProtocols) {
    if (!suffix.starts_with(protocol)) continue;
    const std::string_view rest = suffix.substr(protocol.size());
    return rest.empty() || rest == "_PROTO" || rest == "_PORT" || rest == "_ADDR";
  }
  return false;
}

const Key* find_variable(std::string_view name) {
  const auto& keys = schema();
  const auto found = std::find_if(keys.begin(), keys.end(), [name](const Key& key) { return key.environment() == name; });
  return found == keys.end() ? nullptr : &*found;
}

// The key path that a variable's name would stand for.
std::string path_of(std::string_view name) {
  std::string path;
  name.remove_prefix(kEnvironmentPrefix.size());
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    if (c == '_' && i + 1 < name.size() && name[i + 1] == '_') {
      path += '.';
      ++i;
    } else {
      path += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
  }
  return path;
}

[[noreturn]] void throw_unknown_variable(std::string_view name) {
  const std::string nearest = nearest_key(path_of(name), Nearest::kKeys);
  throw ConfigError(std::string(name) + ": unknown environment variable; the nearest known one is " +
                    find_key(nearest)->environment());
}

}  // namespace

bool is_kubernetes_service_variable(std::string_view name, std::string_view value) {
  if (!name.starts_with(kEnvironmentPrefix)) return false;
  // With the underscore in front, so that "nearcached" and "nearcached-admin" end alike.
  const std::string_view rest = name.substr(kEnvironmentPrefix.size() - 1);
  if (rest.find("__") != std::string_view::npos) return false;
  if (rest.ends_with("_SERVICE_HOST") || rest.find("_SERVICE_PORT_") != std::string_view::npos) return true;
  if (rest.ends_with("_SERVICE_PORT")) return true;
  if (rest == "_PORT") return true;
  if (rest.ends_with("_PORT") && value.find("://") != std::string_view::npos) return true;
  constexpr std::string_view kPort = "_PORT_";
  for (std::size_t at = rest.find(kPort); at != std::string_view::npos; at = rest.find(kPort, at + 1)) {
    if (is_port_suffix(rest.substr(at + kPort.size()))) return true;
  }
  return false;
}

void apply_environment(Configuration& configuration, const char* const* environment) {
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view variable(*environment);
    if (!variable.starts_with(kEnvironmentPrefix)) continue;
    const std::size_t equals = std::min(variable.find('='), variable.size());
    const std::string_view name = variable.substr(0, equals);
    const std::string_view value = variable.substr(std::min(equals + 1, variable.size()));
    if (const Key* key = find_variable(name)) {
      const Origin origin{std::string(name), 0};
      configuration.assign(*key, value_from_text(*key, value, origin), origin);
    } else if (!is_kubernetes_service_variable(name, value)) {
      throw_unknown_variable(name);
    }
  }
}

}  // namespace nearcached::config
