#include "tiers/fill_service.hpp"

#include <algorithm>
#include <atomic>

#include "protocol/reply_form.hpp"
#include "tiers/coherence/rules.hpp"
#include "tiers/io/clock.hpp"

namespace nearcached::tiers {

using insight::InvalidationSource;

namespace {

constexpr std::int64_t kCollectEveryUs = 10'000'000;
constexpr std::int64_t kUnusedAfterUs = 60'000'000;
constexpr std::size_t kCopiesBytes = 4u << 20;  // of one value, to those who wait for it
constexpr std::size_t kAuditsMax = 256;         // of one link, on their way

}  // namespace

// A fill link with what its events mean here: installation, invalidation, answers.
class FillService::Link final : public coherence::FillLinkEvents {
 public:
  Link(FillService& service, const upstream::IdentityPtr& identity, const upstream::Endpoint& node, std::uint16_t row)
      : service_(service),
        realm_(identity->id),
        row_(row),
        connection_(service.loop_, service.resolver_, node, identity, service.options_.connect_timeout_us,
                    service.options_.tls,
                    std::make_unique<coherence::FillLink>(link_options(service, *identity), row, service.cache_.fences(),
                                                          service.cache_.epochs(), service.cache_.links(), *this)) {}
  ~Link() {
    ending_ = true;
    connection_.close();
    connection_.link().end_waiting();
    service_.cache_.links().release(row_);
  }
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  void audit(coherence::FillRead read, const AuditSample& sample, std::int64_t now_us) {
    if (audits_.size() >= kAuditsMax || !still_a_hit(read, sample)) return;
    read.audit = true;
    audits_[++last_audit_] = sample;
    if (!connection_.link().submit(read, {nullptr, last_audit_, 0}, now_us)) audits_.erase(last_audit_);
  }
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
  // Here, where pushes are handled, fence and entry are of one moment.
  [[nodiscard]] bool still_a_hit(const coherence::FillRead& read, const AuditSample& sample) const {
    NearCache& cache = service_.cache_;
    if (!sample.fence.open() || !cache.fences().current(read.hash, sample.fence)) return false;
    const l1::Store::ReadGuard guard(cache.store());
    const auto found =
        cache.find({read.hash, realm_, read.key}, read.variant, cache.policies().of(read.key), 0, io::boot_us());
    std::string plain;
    return found.reply && !found.stale && cache.unpack(*found.reply, plain) && plain == sample.reply;
  }
  static coherence::FillLinkOptions link_options(const FillService& service, const upstream::Identity& identity) {
    coherence::FillLinkOptions options = service.options_.link;
    options.credentials = identity.credentials;
    options.database = identity.database;
    return options;
  }

  void on_filled(const coherence::FillResult& result) override {
    const std::int64_t now_us = io::boot_us();
    if (result.audit) {
      end_audit(result, now_us);
      return;
    }
    insight::Counters& counters = service_.counters_;
    if (result.answered) {
      const bool kept = service_.cache_.install(result, realm_, now_us);
      // What its reader is told may be newer than what is kept of the key.
      if (!kept && result.untold) service_.cache_.on_read_past(result.hash);
      if (service_.cache_.too_large(result)) {
        service_.too_large_[result.hash % kTooLargeSlots] = coherence::read_id(result.hash, result.variant);
      }
      if (kept && result.variant.empty()) note_refill(result);
      (kept ? counters.fills_installed : counters.fills_discarded).add();
      counters.fill_latency.observe(static_cast<std::uint64_t>(std::max<std::int64_t>(0, now_us - result.sent_us)));
    }
    // Each waiter's client gets a copy at once, whether it reads or not. Of a large value only some do: the others ask the
    // ordinary way, where it streams.
    const std::size_t copies = result.answered ? 1 + kCopiesBytes / (result.reply.size() + 1) : 0;
    std::size_t told = 0;
    for (const bool answered : {true, false}) {
      const std::size_t end = answered ? std::min(copies, result.waiters.size()) : result.waiters.size();
      if (told == end) continue;
      const auto bytes = std::make_shared<const std::string>(answered ? result.reply : result.command);
      for (; told < end; ++told) service_.answer({result.waiters[told], answered, bytes, {}});
    }
  }

  // A change of the key, of all keys, or that its connection can't tell of any more.
  [[nodiscard]] bool told_since(const coherence::FillResult& result, const AuditSample& sample) const {
    NearCache& cache = service_.cache_;
    return !cache.fences().current(result.hash, sample.fence) ||
           cache.links().generation(result.basis.link) != result.basis.generation ||
           cache.epochs().of(result.basis.slot) != result.basis.slot_epoch;
  }

  void end_audit(const coherence::FillResult& result, std::int64_t now_us) {
    const auto found = audits_.find(result.waiters.front().token);
    const AuditSample sample = std::move(found->second);
    audits_.erase(found);
    // One that expired meanwhile proves nothing either way.
    if (!result.answered || now_us / 1000 >= sample.expires_at_ms) return;
    insight::Counters& counters = service_.counters_;
    counters.audit_checked.add();
    if (result.reply == sample.reply || protocol::same_elements(result.variant, result.reply, sample.reply)) return;
    counters.audit_staleness.observe(static_cast<std::uint64_t>(std::max<std::int64_t>(0, now_us - sample.hit_us)));
    // Told of meanwhile: the hit was in time. Not told of: it must not have been served.
    if (told_since(result, sample)) return;
    counters.audit_stale.add();
    service_.cache_.on_read_past(result.hash);
    if (connection_.link().source() != coherence::ChangeSource::kTtl)
      service_.options_.on_audit_stale(connection_.endpoint(), result.basis.slot);
  }

  // An invalidation that no write explains: the value read next is the one that was dropped. The node's tracking table is
  // too small for its readers.
  void note_drop(std::uint64_t hash, std::string_view key) {
    const l1::Store::ReadGuard guard(service_.cache_.store());
    std::string scratch;
    const auto reply = service_.cache_.peek({hash, realm_, key}, {}, scratch);
    if (reply) dropped_[hash % kDroppedKept] = {hash, std::hash<std::string_view>()(*reply)};
  }
  void note_refill(const coherence::FillResult& result) {
    Dropped& dropped = dropped_[result.hash % kDroppedKept];
    if (dropped.hash != result.hash) return;
    if (dropped.reply == std::hash<std::string_view>()(result.reply)) service_.counters_.invalidations_unexplained.add();
    dropped = {};
  }

  void on_invalidated(std::string_view key) override {
    const std::uint64_t hash = l1::hash_key(key);
    const bool bus = connection_.link().source() == coherence::ChangeSource::kBus;
    if (!bus) note_drop(hash, key);
    service_.cache_.on_invalidated(hash, bus ? InvalidationSource::kBus : InvalidationSource::kTracking, io::boot_us(),
                                   service_.counters_);
    service_.too_large_[hash % kTooLargeSlots] = 0;
  }
  void on_invalidated_prefix(std::string_view prefix) override {
    count(InvalidationSource::kPurge);
    if (prefix.empty()) {
      service_.cache_.purge_everything();
    } else {
      service_.options_.purge_prefix(std::string(prefix));
    }
  }
  void on_own_view(std::uint16_t lowest, std::int64_t asked_us) override {
    const auto& told = service_.options_.on_own_view;
    if (told) told(connection_.endpoint(), lowest, asked_us);
  }
  void on_slots_moved(std::size_t slots) override { count(InvalidationSource::kSlotMoved, slots); }
  void on_gap() override {
    service_.counters_.bus_gaps.add();
    count(InvalidationSource::kGeneration);
  }
  void on_invalidated_all() override {
    count(InvalidationSource::kFlush);
    std::fill(service_.too_large_.begin(), service_.too_large_.end(), 0);
  }
  void on_state(coherence::FillLinkState state, std::string_view) override {
    if (ending_) return;
    const bool was_serving = std::exchange(serving_, state == coherence::FillLinkState::kServing);
    if (was_serving && !serving_) {
      std::fill(service_.too_large_.begin(), service_.too_large_.end(), 0);
      count(InvalidationSource::kGeneration);
    }
    if (serving_ && !was_serving) service_.cache_.note_serving();
    // A node that stays away is said to be away once.
    const bool again = state == coherence::FillLinkState::kClosed && !was_serving && told_closed_;
    if (state != coherence::FillLinkState::kGreeting) told_closed_ = state == coherence::FillLinkState::kClosed;
    if (!again) service_.options_.on_state(connection_.endpoint(), realm_, connection_.link());
  }
  void count(InvalidationSource source, std::size_t n = 1) {
    service_.counters_.invalidations[static_cast<std::size_t>(source)].add(n);
  }

  struct Dropped {
    std::uint64_t hash = 0;
    std::uint64_t reply = 0;
  };
  static constexpr std::size_t kDroppedKept = 1024;

  FillService& service_;
  const std::uint32_t realm_;
  const std::uint16_t row_;
  bool serving_ = false;
  bool told_closed_ = false;
  std::int64_t wanted_us_ = io::boot_us();  // when its node was last in the topology, or its identity in use
  bool ending_ = false;                     // nobody needs to hear that the connection is lost
  std::vector<Dropped> dropped_ = std::vector<Dropped>(kDroppedKept);  // direct-mapped by hash
  std::map<std::uint64_t, AuditSample> audits_;
  std::uint64_t last_audit_ = 0;
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

FillService::Request FillService::make_request(const upstream::IdentityPtr& identity, const coherence::FillRead& read,
                                               const upstream::Endpoint& node) const {
  Request request;
  request.identity = identity;
  request.node = node;
  request.key = read.key;
  request.command = read.command;
  request.variant = read.variant;
  request.hash = read.hash;
  request.slot = read.slot;
  request.caching = read.caching;
  request.not_before_us = read.not_before_us;
  request.topology_version = topology_->version;
  return request;
}

bool FillService::read(const upstream::IdentityPtr& identity, const coherence::FillRead& read, FillSink& sink,
                       std::uint64_t token, std::int64_t now_us) {
  const upstream::Endpoint* node = topology_ ? topology_->node_of(read.slot) : nullptr;
  if (node == nullptr) return false;
  if (!passed_by_.empty() && passed_by({identity->id, *node}, now_us)) return false;
  Request request = make_request(identity, read, *node);
  request.waiter = {&sink, token, worker_};
  hand_over(std::move(request));
  return true;
}

void FillService::pass_by(const upstream::IdentityPtr& identity, std::uint16_t slot, std::int64_t now_us) {
  const upstream::Endpoint* node = topology_ ? topology_->node_of(slot) : nullptr;
  if (node == nullptr) return;
  std::int64_t& since_us = in_vain_since_us_[{identity->id, *node}];
  if (now_us - since_us > kPassByUs) since_us = now_us;
  if (now_us - since_us >= kInVainUs) passed_by_[{identity->id, *node}] = {now_us + kPassByUs, cache_.servings()};
}

bool FillService::passed_by(const LinkKey& key, std::int64_t now_us) {
  const auto found = passed_by_.find(key);
  if (found == passed_by_.end()) return false;
  if (now_us < found->second.until_us && cache_.servings() == found->second.servings) return true;
  passed_by_.erase(found);
  return false;
}

void FillService::audit(const upstream::IdentityPtr& identity, const coherence::FillRead& read, AuditSample sample) {
  const upstream::Endpoint* node = topology_ ? topology_->node_of(read.slot) : nullptr;
  if (node == nullptr) return;
  Request request = make_request(identity, read, *node);
  request.audit = std::make_shared<AuditSample>(std::move(sample));
  hand_over(std::move(request));
}

void FillService::hand_over(Request request) {
  const std::uint32_t owner = owner_of(request.node);
  if (owner == worker_) {
    serve(request);
    return;
  }
  if (requests_out_.empty()) requests_out_.resize(peers_->loops.size());
  requests_out_[owner].push_back(std::move(request));
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
  Link* link = links_.emplace(key, std::make_unique<Link>(*this, identity, node, *row)).first->second.get();
  link->connection().tick(io::boot_us());  // opens it: a first read should not wait for a tick
  return link;
}

void FillService::serve(const Request& request) {
  coherence::FillRead read{request.key, request.hash, request.slot, request.command, request.variant, request.caching};
  const std::int64_t now_us = io::boot_us();
  // Before the topology's version is asked for: a new owner is announced by the version first and by the epoch second.
  read.slot_epoch = cache_.epochs().of(request.slot);
  read.not_before_us = request.not_before_us;
  if (request.audit) {
    Link* link = link_to(request.identity, request.node);
    if (link != nullptr) link->audit(read, *request.audit, now_us);
    return;
  }
  if (request.waiter.worker != worker_ && answer_from_l1(request, now_us)) return;
  const bool too_large = too_large_[request.hash % kTooLargeSlots] == coherence::read_id(request.hash, request.variant);
  const bool outdated =
      request.topology_version != cache_.topology_version() && coherence::enforced(coherence::Rule::kTopologyAtFill);
  Link* link = too_large || outdated ? nullptr : link_to(request.identity, request.node);
  const std::uint64_t joined_before = link == nullptr ? 0 : link->connection().link().joined();
  if (link != nullptr && link->connection().link().submit(read, request.waiter, now_us)) {
    const bool joined = link->connection().link().joined() != joined_before;
    (joined ? counters_.fills_joined : counters_.fills_started).add();
    if (link->connection().link().state() == coherence::FillLinkState::kClosed) link->connection().hurry(now_us);
  } else {
    Answer answer{request.waiter, false, std::make_shared<const std::string>(request.command), {}};
    if (link != nullptr && link->connection().link().state() == coherence::FillLinkState::kRefused) {
      answer.refused = LinkKey{request.identity->id, request.node};
    }
    this->answer(std::move(answer));
  }
}

// While it was on its way here, somebody else's fill of it may have ended.
bool FillService::answer_from_l1(const Request& request, std::int64_t now_us) {
  const Policy& policy = cache_.policies().of(request.key);
  if (policy.consistency == Consistency::kCausal) return false;  // what its client has heard is not known here
  const l1::Store::ReadGuard guard(cache_.store());
  const auto found = cache_.find({request.hash, request.identity->id, request.key}, request.variant, policy, 0, now_us);
  std::string reply;
  if (!found.reply || found.stale || !cache_.unpack(*found.reply, reply)) return false;
  counters_.fills_joined.add();
  answer({request.waiter, true, std::make_shared<const std::string>(std::move(reply)), {}});
  return true;
}

void FillService::prove(const upstream::IdentityPtr& identity, std::uint16_t slot, std::int64_t since_us, FillSink& sink) {
  const upstream::Endpoint* node = topology_ ? topology_->node_of(slot) : nullptr;
  if (node == nullptr) {
    loop_.post([&sink] { sink.on_proven(); });
    return;
  }
  const std::uint32_t owner = owner_of(*node);
  FillService* peer = peers_->services[owner];
  if (peer == this) {
    start_proof(identity, *node, since_us, *this, sink);
    return;
  }
  peers_->loops[owner]->post(
      [peer, identity, node = *node, since_us, this, &sink] { peer->start_proof(identity, node, since_us, *this, sink); });
}

void FillService::start_proof(const upstream::IdentityPtr& identity, const upstream::Endpoint& node, std::int64_t since_us,
                              FillService& origin, FillSink& sink) {
  auto tell = [&origin, &sink] { origin.loop_.post([&sink] { sink.on_proven(); }); };
  Link* link = link_to(identity, node);
  if (link == nullptr || !link->connection().link().barrier(tell, since_us, io::boot_us())) tell();
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
    if (!link->connection().link().barrier([barrier] { barrier->done(); }, now_us, now_us)) barrier->done();
  }
  barrier->done();
}

void FillService::deliver(std::vector<Answer>& answers) {
  for (const Answer& answer : answers) {
    if (answer.refused) passed_by_[*answer.refused] = {io::boot_us() + kAskAgainUs, cache_.servings()};
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
  std::erase_if(passed_by_, [&](const auto& item) { return item.second.until_us <= now_us; });
  std::erase_if(in_vain_since_us_, [&](const auto& item) { return now_us - item.second > kPassByUs; });
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

std::size_t FillService::held_bytes() const {
  std::size_t bytes = 0;
  for (const auto& [key, link] : links_) bytes += link->connection().link().held_bytes();
  return bytes;
}

void FillService::links(std::vector<FillLinkRow>& rows) const {
  for (const auto& [key, link] : links_) {
    const coherence::FillLink& machine = link->connection().link();
    FillLinkRow row;
    row.endpoint = key.second;
    row.identity = key.first;
    row.state = machine.state();
    row.reason = machine.state_reason();
    row.source = machine.source();
    row.source_reason = machine.source_reason();
    row.proven_us = cache_.links().proven_us(machine.link());
    row.invalidations = machine.invalidations();
    row.bus_gaps = machine.bus_gaps();
    row.in_flight = machine.reads_in_flight();
    row.waiting = machine.reads_waiting();
    rows.push_back(std::move(row));
  }
}

}  // namespace nearcached::tiers
