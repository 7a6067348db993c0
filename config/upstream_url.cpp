#include "config/upstream_url.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <optional>

#include "config/address.hpp"
#include "config/config_error.hpp"
#include "config/units.hpp"

namespace nearcached::config {
namespace {

using tiers::upstream::Credentials;
using tiers::upstream::Endpoint;

constexpr std::string_view kServerScheme = "redis://";
constexpr std::string_view kClusterScheme = "redis+cluster://";
constexpr std::string_view kPlain = "redis";
constexpr std::string_view kSecure = "rediss";
constexpr std::string_view kSentinelScheme = "redis+sentinel://";
constexpr std::size_t kPasswordFileLineMax = 4096;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                       c == '.' || c == '~';
    if (plain) {
      encoded += c;
    } else {
      encoded += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return encoded;
}

std::string parse_user_info(std::string_view text, Credentials& credentials) {
  const std::size_t colon = text.find(':');
  const auto user = percent_decode(text.substr(0, colon));
  const auto password = colon == std::string_view::npos ? std::string{} : percent_decode(text.substr(colon + 1));
  if (!user || !password) return "its user or password has a '%' without two hexadecimal digits behind it";
  credentials = {*user, *password};
  return {};
}

std::string parse_hosts(std::string_view text, UpstreamUrl& url) {
  std::size_t from = 0;
  while (from <= text.size()) {
    const std::size_t comma = std::min(text.find(',', from), text.size());
    const std::string_view host = text.substr(from, comma - from);
    const auto endpoint = parse_host_port(host, url.kind == UpstreamKind::kSentinel ? kSentinelPort : kRedisPort);
    if (!endpoint) return "\"" + std::string(host) + "\" is not HOST, HOST:PORT or [IPV6]:PORT";
    if (std::find(url.endpoints.begin(), url.endpoints.end(), *endpoint) != url.endpoints.end()) {
      return address_text(*endpoint) + " is named twice";
    }
    url.endpoints.push_back(*endpoint);
    if (url.endpoints.size() > kSeedsMax) return "it names more than " + std::to_string(kSeedsMax) + " hosts";
    from = comma + 1;
  }
  if (url.kind == UpstreamKind::kServer && url.endpoints.size() > 1) {
    return "redis:// names one server; several hosts are redis+cluster:// or redis+sentinel://";
  }
  return {};
}

std::string parse_database(std::string_view text, UpstreamUrl& url) {
  if (text.empty()) return {};
  if (url.kind == UpstreamKind::kCluster) return "a cluster has no databases, but a path follows the hosts";
  const auto number = parse_integer(text);
  if (!number || *number > static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max())) {
    return "what follows the host is not the number of a database";
  }
  url.database = static_cast<std::uint32_t>(*number);
  return {};
}

// "master" or "master/database".
std::string parse_master(std::string_view path, UpstreamUrl& url) {
  const std::size_t slash = std::min(path.find('/'), path.size());
  const auto name = percent_decode(path.substr(0, slash));
  const bool fit = name && std::none_of(name->begin(), name->end(),
                                        [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; });
  if (!fit || name->empty())
    return "the name of the master has to follow the sentinels: redis+sentinel://host:26379/mymaster";
  url.master = *name;
  return parse_database(path.substr(std::min(slash + 1, path.size())), url);
}

// What comes behind "scheme://".
std::string parse_rest(std::string_view rest, UpstreamUrl& url) {
  if (rest.find_first_of("?#") != std::string_view::npos) {
    return "'?' and '#' have no meaning here (in a user or password: %3F and %23)";
  }
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, slash);
  const std::string_view path = rest.substr(std::min(slash + 1, rest.size()));
  const std::size_t at = authority.rfind('@');
  if (at == std::string_view::npos && path.find('@') != std::string_view::npos) {
    return "its user or password has a '/' (write %2F)";
  }
  if (at != std::string_view::npos) {
    if (std::string problem = parse_user_info(authority.substr(0, at), url.credentials); !problem.empty()) return problem;
    authority.remove_prefix(at + 1);
  }
  if (std::string problem = parse_hosts(authority, url); !problem.empty()) return problem;
  return url.kind == UpstreamKind::kSentinel ? parse_master(path, url) : parse_database(path, url);
}

std::string parse_into(std::string_view text, UpstreamUrl& url) {
  if (text.starts_with("unix:")) {
    const auto endpoint = parse_unix(text);
    if (!endpoint) return "what follows unix: is not a path of 1 to " + std::to_string(kUnixPathMax) + " bytes";
    url.endpoints = {*endpoint};
    return {};
  }
  if (text.starts_with("rediss:") || text.starts_with("rediss+")) {
    url.tls = true;
    return parse_into(std::string(kPlain) + std::string(text.substr(kSecure.size())), url);
  }
  if (text.starts_with(kServerScheme)) return parse_rest(text.substr(kServerScheme.size()), url);
  if (text.starts_with(kClusterScheme)) {
    url.kind = UpstreamKind::kCluster;
    return parse_rest(text.substr(kClusterScheme.size()), url);
  }
  if (text.starts_with(kSentinelScheme)) {
    url.kind = UpstreamKind::kSentinel;
    return parse_rest(text.substr(kSentinelScheme.size()), url);
  }
  return "it does not begin with redis://, redis+cluster://, redis+sentinel://, the same with rediss, or unix:";
}

std::string read_first_line(const std::string& key, const std::string& path) {
  const std::string where = key + ": \"" + path + "\" ";
  std::ifstream file(path, std::ios::binary);
  std::array<char, kPasswordFileLineMax + 2> buffer{};
  if (file) file.read(buffer.data(), buffer.size());
  if (!file.eof() && !file)
    throw ConfigError(where + "can't be read; allowed: a readable file, its first line the password");
  const std::string_view content(buffer.data(), static_cast<std::size_t>(file.gcount()));
  std::string_view line = content.substr(0, content.find('\n'));
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) throw ConfigError(where + "has an empty first line; allowed: a file whose first line is the password");
  if (line.size() > kPasswordFileLineMax)
    throw ConfigError(where + "has a first line of more than 4KB; allowed: at most 4KB");
  return std::string(line);
}

}  // namespace

std::string parse_upstream_url(std::string_view text, UpstreamUrl& url) {
  UpstreamUrl parsed;
  parsed.text = text;
  std::string problem = parse_into(text, parsed);
  if (problem.empty()) url = std::move(parsed);
  return problem;
}

std::string redact_unparsed_url(std::string_view text) {
  const std::size_t at = text.rfind('@');
  if (at == std::string_view::npos) return std::string(text);
  const std::size_t scheme = text.find("://");
  const std::size_t begin = scheme == std::string_view::npos || scheme > at ? 0 : scheme + 3;
  return std::string(text.substr(0, begin)) + std::string(kRedacted) + std::string(text.substr(at));
}

std::string UpstreamUrl::redacted() const {
  if (endpoints.empty()) return {};
  if (endpoints.front().is_unix()) return address_text(endpoints.front());
  constexpr std::string_view kSchemes[] = {kServerScheme, kClusterScheme, kSentinelScheme};
  std::string result(kSchemes[static_cast<std::size_t>(kind)]);
  if (tls) result.insert(kPlain.size(), 1, 's');
  if (!credentials.empty()) {
    result += percent_encode(credentials.user);
    if (!credentials.password.empty()) result += ":" + std::string(kRedacted);
    result += "@";
  }
  for (const Endpoint& endpoint : endpoints) {
    if (&endpoint != &endpoints.front()) result += ",";
    result += address_text(endpoint);
  }
  if (!master.empty()) result += "/" + percent_encode(master);
  if (database != 0) result += "/" + std::to_string(database);
  return result;
}

Credentials resolved_credentials(const Upstream& upstream) {
  Credentials credentials = upstream.url.credentials;
  if (!upstream.username.empty()) credentials.user = upstream.username;
  if (!upstream.password.empty()) credentials.password = upstream.password;
  if (!upstream.password_file.empty()) {
    credentials.password = read_first_line("upstream.password_file", upstream.password_file);
  }
  return credentials;
}

Credentials resolved_credentials(const User& user, const Upstream& upstream) {
  const std::string key = "users: " + user.name + ": upstream_password_file";
  Credentials credentials{user.upstream_username, user.upstream_password};
  if (!user.upstream_password_file.empty()) credentials.password = read_first_line(key, user.upstream_password_file);
  return credentials.empty() ? resolved_credentials(upstream) : credentials;
}

std::vector<std::string> resolved_passwords(const User& user) {
  std::vector<std::string> passwords;
  for (const std::string& path : user.password_files) {
    passwords.push_back(read_first_line("users: " + user.name + ": password_files", path));
  }
  return passwords;
}

std::string resolved_admin_token(const Admin& admin) {
  return admin.token_file.empty() ? std::string() : read_first_line("admin.token_file", admin.token_file);
}

Credentials resolved_sentinel_credentials(const Upstream& upstream) {
  const SentinelAccess& sentinel = upstream.sentinel;
  if (sentinel.password_file.empty()) return {sentinel.username, sentinel.password};
  return {sentinel.username, read_first_line("upstream.sentinel.password_file", sentinel.password_file)};
}

}  // namespace nearcached::config
