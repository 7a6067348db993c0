#include "config/address.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "config/units.hpp"

namespace nearcached::config {
namespace {

using tiers::upstream::Endpoint;

constexpr std::size_t kHostMax = 253;  // RFC 1035
constexpr std::string_view kUnixPrefix = "unix:";

bool is_name(std::string_view host) {
  if (host.empty() || host.size() > kHostMax) return false;
  return std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
  });
}

// With an optional zone, as link-local addresses need one ("fe80::1%eth0").
bool is_v6(std::string_view host) {
  const std::size_t zone = host.find('%');
  if (zone != std::string_view::npos && !is_name(host.substr(zone + 1))) return false;
  std::array<unsigned char, sizeof(in6_addr)> parsed{};
  return inet_pton(AF_INET6, std::string(host.substr(0, zone)).c_str(), parsed.data()) == 1;
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  const auto number = parse_integer(text);
  if (!number || *number < 1 || *number > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(*number);
}

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

std::optional<Endpoint> parse_host_port(std::string_view text, std::uint16_t default_port) {
  std::string_view host;
  std::string_view rest;
  if (!text.empty() && text.front() == '[') {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    host = text.substr(1, close - 1);
    rest = text.substr(close + 1);
    if (!is_v6(host)) return std::nullopt;
  } else {
    const std::size_t colon = std::min(text.find(':'), text.size());
    host = text.substr(0, colon);
    rest = text.substr(colon);
    if (!is_name(host)) return std::nullopt;
  }
  if (rest.empty()) {
    if (default_port == 0) return std::nullopt;
    return Endpoint{std::string(host), default_port};
  }
  if (rest.front() != ':') return std::nullopt;
  const auto port = parse_port(rest.substr(1));
  if (!port) return std::nullopt;
  return Endpoint{std::string(host), *port};
}

std::optional<Endpoint> parse_unix(std::string_view text) {
  if (!text.starts_with(kUnixPrefix)) return std::nullopt;
  std::string_view path = text.substr(kUnixPrefix.size());
  if (path.starts_with("//")) path.remove_prefix(2);
  if (path.empty() || path.size() > kUnixPathMax || has_control_characters(path)) return std::nullopt;
  return Endpoint{std::string(path), 0};
}

std::optional<Endpoint> parse_listen(std::string_view text) {
  return text.starts_with(kUnixPrefix) ? parse_unix(text) : parse_host_port(text, 0);
}

std::string address_text(const Endpoint& endpoint) {
  if (endpoint.is_unix()) return std::string(kUnixPrefix) + endpoint.host;
  const bool v6 = endpoint.host.find(':') != std::string::npos;
  return (v6 ? "[" + endpoint.host + "]" : endpoint.host) + ":" + std::to_string(endpoint.port);
}

}  // namespace nearcached::config
