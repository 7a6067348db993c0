#include "tiers/upstream/redirect.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <string>

namespace nearcached::tiers::upstream {
namespace {

constexpr std::string_view kWaits[] = {
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN The cluster is down",
    "CLUSTERDOWN Hash slot not served",
    "LOADING Redis is loading the dataset in memory",
    "LOADING Valkey is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down",
    "READONLY You can't write against a read only replica",
};

bool means_wait(std::string_view line) {
  return std::any_of(std::begin(kWaits), std::end(kWaits), [&](std::string_view words) { return line.starts_with(words); });
}

// "3999 127.0.0.1:6381", "3999 [::1]:6381", "3999 ::1:6381", "3999 :6381".
std::optional<Endpoint> parse_target(std::string_view rest, const Endpoint& asked, std::uint32_t slot) {
  const std::size_t space = rest.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  std::uint32_t named = 0;
  const auto [slot_end, slot_error] = std::from_chars(rest.data(), rest.data() + space, named);
  if (slot_error != std::errc() || slot_end != rest.data() + space) return std::nullopt;
  if (slot != kAnySlot && slot != named) return std::nullopt;
  const std::string_view address = rest.substr(space + 1);
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  std::uint16_t port = 0;
  const char* end = address.data() + address.size();
  const auto [stop, error] = std::from_chars(address.data() + colon + 1, end, port);
  if (error != std::errc() || stop != end || port == 0) return std::nullopt;
  return Endpoint{host.empty() || host == "?" ? asked.host : std::string(host), port};
}

}  // namespace

std::optional<Redirect> parse_redirect(std::string_view line, const Endpoint& asked, std::uint32_t slot) {
  if (means_wait(line)) return Redirect{RedirectKind::kWait, {}};
  const std::size_t space = line.find(' ');
  const std::string_view code = line.substr(0, space);
  if ((code != "MOVED" && code != "ASK") || space == std::string_view::npos) return std::nullopt;
  const auto target = parse_target(line.substr(space + 1), asked, slot);
  if (!target) return std::nullopt;
  return Redirect{code == "MOVED" ? RedirectKind::kMoved : RedirectKind::kAsk, *target};
}

}  // namespace nearcached::tiers::upstream
