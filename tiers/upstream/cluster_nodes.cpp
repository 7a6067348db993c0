#include "tiers/upstream/cluster_nodes.hpp"

#include <charconv>

namespace nearcached::tiers::upstream {
namespace {

// Takes the text up to `separator` off the front of `rest`, the separator too; all of it where there is none.
std::string_view take_until(std::string_view& rest, char separator) {
  const std::size_t at = rest.find(separator);
  const std::string_view head = rest.substr(0, at);
  rest.remove_prefix(at == std::string_view::npos ? rest.size() : at + 1);
  return head;
}

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::uint16_t> parse_slot(std::string_view text) {
  const auto slot = parse_number<std::uint16_t>(text);
  return slot && *slot < protocol::kSlotCount ? slot : std::nullopt;
}

bool lists_flag(std::string_view flags, std::string_view wanted) {
  while (!flags.empty()) {
    if (take_until(flags, ',') == wanted) return true;
  }
  return false;
}

std::optional<NodeRole> parse_role(std::string_view flags) {
  const bool primary = lists_flag(flags, "master") || lists_flag(flags, "primary");
  const bool replica = lists_flag(flags, "slave") || lists_flag(flags, "replica");
  if (primary == replica) return std::nullopt;
  return primary ? NodeRole::kPrimary : NodeRole::kReplica;
}

NodeFlags parse_flags(std::string_view flags) {
  NodeFlags result;
  result.possibly_failing = lists_flag(flags, "fail?");
  result.failing = lists_flag(flags, "fail");
  result.handshake = lists_flag(flags, "handshake");
  result.no_address = lists_flag(flags, "noaddr");
  result.no_failover = lists_flag(flags, "nofailover");
  return result;
}

// "[slot->-node]" or "[slot-<-node]".
bool add_open_slot(std::string_view token, OwnView& view) {
  if (!token.ends_with(']')) return false;
  std::string_view rest = token.substr(1, token.size() - 2);
  const auto slot = parse_slot(take_until(rest, '-'));
  if (!slot || rest.size() <= 2 || rest[1] != '-') return false;
  if (rest[0] != '>' && rest[0] != '<') return false;
  (rest[0] == '>' ? view.migrating : view.importing).set(*slot);
  return true;
}

// "slot" or "first-last".
bool add_owned_slots(std::string_view token, OwnView& view) {
  const bool range = token.find('-') != std::string_view::npos;
  const auto first = parse_slot(take_until(token, '-'));
  const auto last = range ? parse_slot(token) : first;
  if (!first || !last || *first > *last) return false;
  for (std::size_t slot = *first; slot <= *last; ++slot) view.owned.set(slot);
  return true;
}

// `line` without its newline: id address flags primary ping pong epoch link slot...
std::optional<OwnView> parse_line(std::string_view line) {
  take_until(line, ' ');
  take_until(line, ' ');
  const std::string_view flags = take_until(line, ' ');
  const auto role = parse_role(flags);
  take_until(line, ' ');
  take_until(line, ' ');
  take_until(line, ' ');
  const auto epoch = parse_number<std::uint64_t>(take_until(line, ' '));
  const std::string_view link_state = take_until(line, ' ');
  if (!role || !epoch || link_state.empty()) return std::nullopt;

  OwnView view;
  view.role = *role;
  view.flags = parse_flags(flags);
  view.config_epoch = *epoch;
  while (!line.empty()) {
    const std::string_view token = take_until(line, ' ');
    if (token.empty()) continue;
    if (!(token.front() == '[' ? add_open_slot(token, view) : add_owned_slots(token, view))) return std::nullopt;
  }
  return view;
}

bool is_own_line(std::string_view line) {
  take_until(line, ' ');
  take_until(line, ' ');
  return lists_flag(take_until(line, ' '), "myself");
}

std::string_view without_carriage_return(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

std::optional<OwnView> parse_own_view(std::string_view cluster_nodes_text) {
  std::string_view own_line;
  while (!cluster_nodes_text.empty()) {
    if (cluster_nodes_text.find('\n') == std::string_view::npos) return std::nullopt;
    const std::string_view line = without_carriage_return(take_until(cluster_nodes_text, '\n'));
    if (!is_own_line(line)) continue;
    if (!own_line.empty()) return std::nullopt;
    own_line = line;
  }
  if (own_line.empty()) return std::nullopt;
  return parse_line(own_line);
}

std::string_view info_field(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    std::string_view line = without_carriage_return(take_until(text, '\n'));
    if (line.starts_with(name) && line.size() > name.size() && line[name.size()] == ':') {
      return line.substr(name.size() + 1);
    }
  }
  return {};
}

ClusterInfo parse_cluster_info(std::string_view cluster_info_text) {
  ClusterInfo info;
  const std::string_view state = info_field(cluster_info_text, "cluster_state");
  if (state == "ok") info.state = ClusterState::kOk;
  if (state == "fail") info.state = ClusterState::kFail;
  info.current_epoch = parse_number<std::uint64_t>(info_field(cluster_info_text, "cluster_current_epoch")).value_or(0);
  return info;
}

}  // namespace nearcached::tiers::upstream
