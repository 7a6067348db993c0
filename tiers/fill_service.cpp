#include "tiers/fill_service.hpp"

#include <algorithm>
#include <atomic>

#include "tiers/io/clock.hpp"

namespace nearcached::tiers {
namespace {

constexpr std::int64_t kCollectEveryUs = 10'000'000;
constexpr std::int64_t kUnusedAfterUs = 60'000'000;

}  // namespace

// A fill link with what its events mean here: installation, invalidation, answers.
class FillService::Link final : public coherence::FillLinkEvents {
 public:
  Link(FillService& service, const upstream::IdentityPtr& identity, const upstream::Endpoint& node, std::uint16_t row)
      : service_(service),
        realm_(identity->id),
        row_(row),
        connection_(service.loop_, service.resolver_, node, identity, service.options_.connect_timeout_us,
                    std::make_unique<coherence::FillLink>(link_options(service, *identity), row, service.cache_.fences(),
                                                          service.cache_.epochs(), service.cache_.links(), *this)) {}
  ~Link() {
    ending_ = true;
    connection_.close();
    service_.cache_.links().release(row_);
  }
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  [[nodiscard]] FillConnection& connection() { return connection_; }
  [[nodiscard]] const FillConnection& connection() const { return connection_; }
  // Its node has left the topology, or its identity has had no client, for a while.
  [[nodiscard]] bool unused(std::int64_t now_us) {
    bool node_known = service_.topology_ == nullptr;  // another worker knew it before us
    if (!node_known) {
      const auto& primaries = service_.topology_->primaries;
      node_known = std::find(primaries.begin(), primaries.end(), connection_.endpoint()) != primaries.end();
    }
    const bool identity_used = realm_ == upstream::kConfiguredIdentity || connection_.identity()->clients != 0;
    if (node_known && identity_used) wanted_us_ = now_us;
    return now_us - wanted_us_ > kUnusedAfterUs;
  }

 private:
  static coherence::FillLinkOptions link_options(const FillService& service, const upstream::Identity& identity) {
    coherence::FillLinkOptions options;
    options.cluster = service.options_.cluster;
    options.swapdb_never = service.options_.swapdb_never;
    options.database = service.options_.database;
    options.credentials = identity.credentials;
    options.max_staleness_us = service.options_.max_staleness_us;
    options.reply_timeout_us = service.options_.reply_timeout_us;
    return options;
  }

  void on_filled(const coherence::FillResult& result) override {
    const std::int64_t now_us = io::boot_us();
    insight::Counters& counters = service_.counters_;
    if (result.answered) {
      const bool kept = service_.cache_.install(result, realm_, now_us);
      if (service_.cache_.too_large(result)) service_.too_large_[result.hash % kTooLargeSlots] = result.hash;
      (kept ? counters.fills_installed : counters.fills_discarded).add();
      counters.fill_latency.observe(static_cast<std::uint64_t>(std::max<std::int64_t>(0, now_us - result.sent_us)));
    } else {
      counters.fills_forwarded.add(result.waiters.size());
    }
    const auto bytes = std::make_shared<const std::string>(result.answered ? result.reply : result.key);
    for (const coherence::FillWaiter& waiter : result.waiters) service_.answer({waiter, result.answered, bytes, {}});
  }

  void on_invalidated(std::string_view key) override {
    const std::uint64_t hash = l1::hash_key(key);
    service_.cache_.on_invalidated(hash, service_.counters_);
    std::uint64_t& too_large = service_.too_large_[hash % kTooLargeSlots];
    if (too_large == hash) too_large = 0;
  }
  void on_slots_moved(std::size_t slots) override {
    service_.counters_.invalidations[static_cast<std::size_t>(insight::InvalidationSource::kSlotMoved)].add(slots);
  }
  void on_invalidated_all() override {
    service_.counters_.invalidations[static_cast<std::size_t>(insight::InvalidationSource::kFlush)].add();
    std::fill(service_.too_large_.begin(), service_.too_large_.end(), 0);
  }
  void on_state(coherence::FillLinkState state, std::string_view reason) override {
    if (ending_) return;
    const bool was_serving = std::exchange(serving_, state == coherence::FillLinkState::kServing);
    if (was_serving && !serving_) {
      std::fill(service_.too_large_.begin(), service_.too_large_.end(), 0);
      service_.counters_.invalidations[static_cast<std::size_t>(insight::InvalidationSource::kGeneration)].add();
    }
    service_.options_.on_state(connection_.endpoint(), realm_, state, reason);
  }

  FillService& service_;
  const std::uint32_t realm_;
  const std::uint16_t row_;
  bool serving_ = false;
  std::int64_t wanted_us_ = io::boot_us();  // when its node was last in the topology, or its identity in use
  bool ending_ = false;                     // nobody needs to hear that the connection is lost
  FillConnection connection_;
};

FillService::FillService(std::uint32_t worker, io::EventLoop& loop, io::Resolver& resolver, NearCache& cache,
                         insight::Counters& counters, FillServiceOptions options)
    : worker_(worker), loop_(loop), resolver_(resolver), cache_(cache), counters_(counters), options_(std::move(options)) {}

FillService::~FillService() = default;

std::uint32_t FillService::owner_of(const upstream::Endpoint& node) const {
  const std::size_t hash = std::hash<std::string>()(node.host) * 31 + node.port;
  return static_cast<std::uint32_t>(hash % peers_->loops.size());
}

void FillService::close() { links_.clear(); }

bool FillService::read(const upstream::IdentityPtr& identity, std::string_view key, std::uint64_t hash, std::uint16_t slot,
                       FillSink& sink, std::uint64_t token, std::int64_t now_us) {
  const upstream::Endpoint* owner_node = topology_ ? topology_->node_of(slot) : nullptr;
  if (owner_node == nullptr) return false;
  const upstream::Endpoint& node = *owner_node;
  if (!not_serving_until_us_.empty()) {
    const auto down = not_serving_until_us_.find({identity->id, node});
    if (down != not_serving_until_us_.end()) {
      if (now_us < down->second) return false;
      not_serving_until_us_.erase(down);
    }
  }
  const std::uint32_t owner = owner_of(node);
  Request request{identity, node, std::string(key), hash, slot, {&sink, token, worker_}, topology_->version};
  if (owner == worker_) {
    serve(request);
    return true;
  }
  if (requests_out_.empty()) requests_out_.resize(peers_->loops.size());
  requests_out_[owner].push_back(std::move(request));
  return true;
}

void FillService::set_topology(upstream::TopologyPtr topology, const upstream::IdentityPtr& configured) {
  topology_ = std::move(topology);
  for (const upstream::Endpoint& node : topology_->primaries) {
    if (owner_of(node) == worker_) static_cast<void>(link_to(configured, node));
  }
}

FillService::Link* FillService::link_to(const upstream::IdentityPtr& identity, const upstream::Endpoint& node) {
  const LinkKey key{identity->id, node};
  const auto known = links_.find(key);
  if (known != links_.end()) return known->second.get();
  const auto row = cache_.links().acquire();
  if (!row) return nullptr;
  return links_.emplace(key, std::make_unique<Link>(*this, identity, node, *row)).first->second.get();
}

void FillService::serve(const Request& request) {
  const bool too_large = too_large_[request.hash % kTooLargeSlots] == request.hash;
  const bool outdated = request.topology_version != cache_.topology_version();
  Link* link = too_large || outdated ? nullptr : link_to(request.identity, request.node);
  const std::uint64_t joined_before = link == nullptr ? 0 : link->connection().link().joined();
  if (link != nullptr &&
      link->connection().link().submit(request.key, request.hash, request.slot, request.waiter, io::boot_us())) {
    const bool joined = link->connection().link().joined() != joined_before;
    (joined ? counters_.fills_joined : counters_.fills_started).add();
  } else {
    counters_.fills_forwarded.add();
    Answer answer{request.waiter, false, std::make_shared<const std::string>(request.key), {}};
    if (link != nullptr && link->connection().link().state() != coherence::FillLinkState::kServing) {
      answer.not_serving = LinkKey{request.identity->id, request.node};
    }
    this->answer(std::move(answer));
  }
}

void FillService::answer(Answer answer) {
  const std::uint32_t to = answer.waiter.worker;
  if (to == worker_) {
    answers_here_.push_back(std::move(answer));
    return;
  }
  if (answers_out_.empty()) answers_out_.resize(peers_->loops.size());
  answers_out_[to].push_back(std::move(answer));
}

// Counts one for each worker until it has asked its links, and one for each link that was asked.
struct FillService::Barrier {
  FillService& origin;
  FillSink& sink;
  std::uint64_t token;
  std::atomic<std::size_t> left;

  void done() {
    if (left.fetch_sub(1) != 1) return;
    origin.loop_.post([this_sink = &sink, this_token = token] { this_sink->on_barrier(this_token); });
  }
};

void FillService::barrier(FillSink& sink, std::uint64_t token) {
  const auto barrier = std::shared_ptr<Barrier>(new Barrier{*this, sink, token, {peers_->services.size()}});
  for (std::size_t to = 0; to < peers_->services.size(); ++to) {
    FillService* peer = peers_->services[to];
    if (peer == this) continue;
    peers_->loops[to]->post([peer, barrier] { peer->start_barrier(barrier); });
  }
  start_barrier(barrier);
}

void FillService::start_barrier(const std::shared_ptr<Barrier>& barrier) {
  const std::int64_t now_us = io::boot_us();
  for (const auto& [key, link] : links_) {
    barrier->left.fetch_add(1);
    if (!link->connection().link().barrier([barrier] { barrier->done(); }, now_us)) barrier->done();
  }
  barrier->done();
}

void FillService::deliver(std::vector<Answer>& answers) {
  for (const Answer& answer : answers) {
    if (answer.not_serving) not_serving_until_us_[*answer.not_serving] = io::boot_us() + kAskAgainUs;
    static_cast<FillSink*>(answer.waiter.sink)->on_fill(answer.waiter.token, answer.answered, *answer.bytes);
  }
  answers.clear();
}

void FillService::tick(std::int64_t now_us) {
  for (const auto& [key, link] : links_) link->connection().tick(now_us);
  if (now_us < next_collect_us_) return;
  next_collect_us_ = now_us + kCollectEveryUs;
  collect(now_us);
}

void FillService::collect(std::int64_t now_us) {
  std::erase_if(links_, [&](const auto& item) { return item.second->unused(now_us); });
  std::erase_if(not_serving_until_us_, [&](const auto& item) { return item.second <= now_us; });
}

void FillService::flush() {
  // Answers first: what their sinks ask for leaves in this turn as well.
  while (!answers_here_.empty()) {
    std::vector<Answer> answers;
    answers.swap(answers_here_);
    deliver(answers);
  }
  for (const auto& [key, link] : links_) link->connection().flush();
  for (std::size_t to = 0; to < requests_out_.size(); ++to) {
    if (requests_out_[to].empty()) continue;
    FillService* peer = peers_->services[to];
    peers_->loops[to]->post([peer, batch = std::exchange(requests_out_[to], {})] {
      for (const Request& request : batch) peer->serve(request);
    });
  }
  for (std::size_t to = 0; to < answers_out_.size(); ++to) {
    if (answers_out_[to].empty()) continue;
    FillService* peer = peers_->services[to];
    peers_->loops[to]->post([peer, batch = std::exchange(answers_out_[to], {})]() mutable { peer->deliver(batch); });
  }
}

void FillService::links(std::vector<FillLinkRow>& rows) const {
  for (const auto& [key, link] : links_) {
    const coherence::FillLink& machine = link->connection().link();
    rows.push_back({key.second, key.first, machine.state(), machine.state_reason(),
                    cache_.links().verified_until_us(machine.link()), machine.invalidations(), machine.reads_in_flight()});
  }
}

}  // namespace nearcached::tiers
