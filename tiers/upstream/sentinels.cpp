#include "tiers/upstream/sentinels.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

namespace nearcached::tiers::upstream {
namespace {

constexpr std::string_view kSwitch = "+switch-master";

std::optional<Endpoint> endpoint_of(const std::string& host, const std::string& port) {
  Endpoint endpoint{host, 0};
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
  if (host.empty() || error != std::errc() || end != port.data() + port.size() || endpoint.port == 0) return std::nullopt;
  return endpoint;
}

}  // namespace

std::optional<Endpoint> parse_master_address(const ControlReply& reply) {
  if (reply.type != ControlReply::Type::kArray || reply.elements.size() != 2) return std::nullopt;
  return endpoint_of(reply.elements[0].text, reply.elements[1].text);
}

std::string field_of(const ControlReply& flat, std::string_view name) {
  for (std::size_t i = 0; i + 1 < flat.elements.size(); i += 2) {
    if (flat.elements[i].text == name) return flat.elements[i + 1].text;
  }
  return {};
}

Sentinels::Sentinels(ControlLoop& loop, const ControlPlaneOptions& options, std::function<void()> on_switch)
    : loop_(loop), options_(options), on_switch_(std::move(on_switch)) {
  for (const Endpoint& seed : options.seeds) learn(seed);
}

void Sentinels::learn(const Endpoint& endpoint) {
  if (sentinels_.size() >= kSentinelsMax) return;
  const auto [place, added] = sentinels_.try_emplace(endpoint);
  if (!added) return;
  place->second.endpoint = endpoint;
  place->second.id = endpoint.text();
}

std::unique_ptr<ControlLink> Sentinels::open(const Endpoint& endpoint, std::function<void(const ControlReply&)> on_push) {
  ControlLink::Options options{endpoint, options_.tls, options_.connect_timeout, options_.command_timeout};
  options.on_push = std::move(on_push);
  auto link = std::make_unique<ControlLink>(loop_, std::move(options));
  // Whether it was accepted shows in the answer to what follows.
  if (!options_.sentinel_credentials.empty()) link->request(auth_command(options_.sentinel_credentials), [](LinkResult) {});
  return link;
}

void Sentinels::ask(Handler handler) {
  ++round_;
  handler_ = std::move(handler);
  votes_.clear();
  troubles_.clear();
  std::set<std::string> configured;
  for (const Endpoint& seed : options_.seeds) {
    if (const auto known = sentinels_.find(seed); known != sentinels_.end()) configured.insert(known->second.id);
  }
  total_ = configured.size();
  // Those that are learnt while it runs have their say in the next round.
  for (auto& [endpoint, sentinel] : sentinels_) {
    ask_one(sentinel);
    subscribe(sentinel);
  }
}

void Sentinels::ask_one(Sentinel& sentinel) {
  sentinel.asked = true;
  if (!sentinel.link || sentinel.link->dead()) {
    sentinel.link = open(sentinel.endpoint, {});
    sentinel.link->request({"SENTINEL", "MYID"}, [&sentinel](const LinkResult& result) {
      if (result.status == LinkStatus::kOk && result.reply.is_text()) sentinel.id = result.reply.text;
    });
  }
  ControlLink& link = *sentinel.link;
  link.request({"SENTINEL", "SENTINELS", options_.sentinel_master}, [this](const LinkResult& result) { on_others(result); });
  link.request({"SENTINEL", "GET-MASTER-ADDR-BY-NAME", options_.sentinel_master},
               [this, &sentinel, round = round_](const LinkResult& result) { on_master(sentinel, round, result); });
}

void Sentinels::subscribe(Sentinel& sentinel) {
  if (sentinel.subscription && !sentinel.subscription->dead()) return;
  sentinel.subscription = open(sentinel.endpoint, [this](const ControlReply& message) {
    const auto& parts = message.elements;
    const bool ours =
        parts.size() == 3 && parts[1].text == kSwitch && parts[2].text.starts_with(options_.sentinel_master + " ");
    if (ours) on_switch_();
  });
  sentinel.subscription->request({"SUBSCRIBE", std::string(kSwitch)}, [](const LinkResult&) {});
}

void Sentinels::on_others(const LinkResult& result) {
  if (result.status != LinkStatus::kOk || result.reply.type != ControlReply::Type::kArray) return;
  total_ = std::max(total_, result.reply.elements.size() + 1);
  for (const ControlReply& other : result.reply.elements) {
    if (const auto endpoint = endpoint_of(field_of(other, "ip"), field_of(other, "port"))) learn(*endpoint);
  }
}

void Sentinels::on_master(Sentinel& sentinel, std::uint64_t round, const LinkResult& result) {
  if (round != round_ || !handler_) return;
  sentinel.asked = false;
  if (result.status != LinkStatus::kOk) {
    troubles_[sentinel.endpoint] = result.why;
  } else if (result.reply.is_error()) {
    troubles_[sentinel.endpoint] = result.reply.text;
  } else if (const auto master = parse_master_address(result.reply)) {
    votes_[*master].insert(sentinel.id);
  } else {
    troubles_[sentinel.endpoint] = "No such master with that name";
  }
  count();
}

void Sentinels::count() {
  std::size_t answered = 0;
  for (const auto& [master, voters] : votes_) {
    answered += voters.size();
    if (2 * voters.size() > total_) return end(master, {});
  }
  const bool all = std::none_of(sentinels_.begin(), sentinels_.end(), [](const auto& s) { return s.second.asked; });
  if (!all) return;
  std::string why = std::to_string(answered) + " of " + std::to_string(total_) + " sentinels name a master of '" +
                    options_.sentinel_master + "'" + (votes_.size() > 1 ? ", and not the same one" : "");
  if (!troubles_.empty()) why += "; " + troubles_.begin()->first.text() + ": " + troubles_.begin()->second;
  end(std::nullopt, why);
}

void Sentinels::end(const std::optional<Endpoint>& master, const std::string& why) {
  const Handler handler = std::exchange(handler_, nullptr);
  for (auto& [endpoint, sentinel] : sentinels_) sentinel.asked = false;
  handler(master, why);
}

}  // namespace nearcached::tiers::upstream
