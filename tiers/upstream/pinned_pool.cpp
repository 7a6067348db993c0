#include "tiers/upstream/pinned_pool.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tiers/io/clock.hpp"

namespace nearcached::tiers::upstream {
namespace {

constexpr std::int64_t kSecondUs = 1'000'000;
constexpr double kNewWeight = 0.2;  // of the last second, or hold, in a moving average
constexpr double kReserve = 1.2;

}  // namespace

void PinnedSizing::released(std::int64_t held_us) {
  held_s_ += (static_cast<double>(held_us) / kSecondUs - held_s_) * kNewWeight;
}

void PinnedSizing::second() { rate_ += (static_cast<double>(std::exchange(acquired_, 0)) - rate_) * kNewWeight; }

std::size_t PinnedSizing::target() const { return static_cast<std::size_t>(std::ceil(rate_ * held_s_ * kReserve)); }

PinnedPool::PinnedPool(io::EventLoop& loop, io::Resolver& resolver, PinnedPoolOptions options, PinnedBudget& budget)
    : loop_(loop), resolver_(resolver), options_(options), budget_(budget) {}

PinnedPool::~PinnedPool() { *alive_ = false; }

std::uint64_t PinnedPool::acquire(PinnedOwner& owner, const IdentityPtr& identity, protocol::RespVersion version,
                                  const Endpoint& endpoint, Acquired then) {
  wanted_.push_back({next_ticket_, &owner, identity, version, endpoint, std::move(then), io::boot_us(), nullptr});
  serve_later();
  return next_ticket_++;
}

void PinnedPool::cancel(std::uint64_t ticket) {
  std::erase_if(wanted_, [&](const Wanted& wanted) { return wanted.ticket == ticket; });
}

void PinnedPool::give_back(Connection connection, bool clean) {
  const std::int64_t now_us = io::boot_us();
  connection->set_owner(nullptr);
  if (const auto since = in_use_.find(connection.get()); since != in_use_.end()) {
    sizing_.released(now_us - since->second);
    in_use_.erase(since);
  }
  if (clean && connection->ready() && connection->idle()) {
    idle_.push_back({std::move(connection), now_us});
  } else {
    discard(std::move(connection));
  }
  if (!wanted_.empty()) serve_later();
}

void PinnedPool::discard(Connection connection) {
  std::erase(dirty_, connection.get());
  graveyard_.push_back(std::move(connection));
  budget_.open.fetch_sub(1);
}

void PinnedPool::serve_later() {
  if (std::exchange(serving_later_, true)) return;
  loop_.post([this, alive = alive_] {
    if (!*alive) return;
    serving_later_ = false;
    serve_waiting(io::boot_us());
  });
}

void PinnedPool::serve_waiting(std::int64_t now_us) {
  // Whoever is served may ask for more, or cancel: by ticket, not by place.
  std::vector<std::uint64_t> tickets;
  tickets.reserve(wanted_.size());
  for (const Wanted& wanted : wanted_) tickets.push_back(wanted.ticket);
  for (const std::uint64_t ticket : tickets) {
    const auto at = std::find_if(wanted_.begin(), wanted_.end(), [&](const Wanted& w) { return w.ticket == ticket; });
    if (at != wanted_.end() && !serve(*at, now_us)) break;
  }
}

// False: there is no room, and who came later need not try.
bool PinnedPool::serve(Wanted& wanted, std::int64_t now_us) {
  // The one used last: the others may then be closed.
  const auto fits = [&](const Idle& idle) {
    const PinnedConnection& c = *idle.connection;
    return c.endpoint() == wanted.endpoint && c.version() == wanted.version && c.identity() == wanted.identity;
  };
  if (const auto idle = std::find_if(idle_.rbegin(), idle_.rend(), fits); idle != idle_.rend()) {
    Connection connection = std::move(idle->connection);
    idle_.erase(std::next(idle).base());
    hand_over(wanted, std::move(connection));
    return true;
  }
  if (wanted.opening != nullptr) return true;
  if (budget_.open.fetch_add(1) >= budget_.max) {
    budget_.open.fetch_sub(1);
    if (!make_room()) return false;
    budget_.open.fetch_add(1);
  }
  ++opened_;
  opening_.push_back(std::make_unique<PinnedConnection>(
      loop_, resolver_,
      PinnedConnectionOptions{wanted.endpoint, wanted.identity, wanted.version, options_.connect_timeout_us, options_.tls},
      *this));
  wanted.opening = opening_.back().get();
  wanted.opening->open(now_us);
  return true;
}

bool PinnedPool::make_room() {
  if (idle_.empty()) return false;
  Connection oldest = std::move(idle_.front().connection);
  idle_.pop_front();
  discard(std::move(oldest));
  return true;
}

void PinnedPool::hand_over(Wanted& wanted, Connection connection) {
  ++acquired_;
  sizing_.acquired();
  connection->set_owner(wanted.owner);
  in_use_.emplace(connection.get(), io::boot_us());
  const Acquired then = std::move(wanted.then);
  const std::uint64_t ticket = wanted.ticket;
  std::erase_if(wanted_, [&](const Wanted& w) { return w.ticket == ticket; });
  then(std::move(connection), {});
}

void PinnedPool::on_ready(PinnedConnection& connection) {
  const auto at = std::find_if(opening_.begin(), opening_.end(), [&](const auto& c) { return c.get() == &connection; });
  if (at == opening_.end()) return;
  idle_.push_back({std::move(*at), io::boot_us()});
  opening_.erase(at);
  for (Wanted& wanted : wanted_) {
    if (wanted.opening == &connection) wanted.opening = nullptr;
  }
  // Not from inside the connection's own call: it may be given back, and closed, at once.
  serve_later();
}

void PinnedPool::on_useless(PinnedConnection& connection, std::string_view why) {
  const auto same = [&](const auto& c) { return c.get() == &connection; };
  if (const auto at = std::find_if(opening_.begin(), opening_.end(), same); at != opening_.end()) {
    discard(std::move(*at));
    opening_.erase(at);
    const auto wanted =
        std::find_if(wanted_.begin(), wanted_.end(), [&](const Wanted& w) { return w.opening == &connection; });
    if (wanted == wanted_.end()) return;
    const Acquired then = std::move(wanted->then);
    wanted_.erase(wanted);
    then(nullptr, why);
    return;
  }
  const auto idle =
      std::find_if(idle_.begin(), idle_.end(), [&](const Idle& i) { return i.connection.get() == &connection; });
  if (idle == idle_.end()) return;
  discard(std::move(idle->connection));
  idle_.erase(idle);
}

void PinnedPool::on_bytes(PinnedConnection& connection) { dirty_.push_back(&connection); }

void PinnedPool::flush() {
  graveyard_.clear();
  std::vector<PinnedConnection*> dirty;
  dirty.swap(dirty_);
  std::sort(dirty.begin(), dirty.end());
  dirty.erase(std::unique(dirty.begin(), dirty.end()), dirty.end());
  for (PinnedConnection* connection : dirty) connection->flush();
}

void PinnedPool::refuse_late(std::int64_t now_us) {
  while (!wanted_.empty() && now_us - wanted_.front().asked_us > options_.acquire_timeout_us) {
    const Acquired then = std::move(wanted_.front().then);
    wanted_.pop_front();
    ++timeouts_;
    then(nullptr, "ERR nearcached: no upstream connection was free within upstream.pinned_pool.acquire_timeout (" +
                      std::to_string(options_.acquire_timeout_us / 1000) + " ms): all " + std::to_string(budget_.max) +
                      " of upstream.pinned_pool.max are in use");
  }
}

void PinnedPool::close_surplus(std::int64_t now_us) {
  const std::size_t wished = std::max(options_.min, sizing_.target());
  while (!idle_.empty()) {
    const std::int64_t unused_us = now_us - idle_.front().since_us;
    const bool surplus = idle_.size() + in_use_.size() > wished;
    if (unused_us <= (surplus ? kIdleCloseUs : kUnusedUs)) return;
    static_cast<void>(make_room());
  }
}

void PinnedPool::tick(std::int64_t now_us) {
  std::vector<PinnedConnection*> all;
  for (const Connection& connection : opening_) all.push_back(connection.get());
  for (const auto& [connection, since] : in_use_) all.push_back(connection);
  for (PinnedConnection* connection : all) connection->tick(now_us);
  refuse_late(now_us);
  const std::size_t waiting = static_cast<std::size_t>(
      std::count_if(wanted_.begin(), wanted_.end(), [](const Wanted& w) { return w.opening == nullptr; }));
  budget_.wanted.fetch_add(waiting);
  budget_.wanted.fetch_sub(std::exchange(announced_wanted_, waiting));
  // Somebody else's clients wait, and what is idle here is no use to them.
  if (budget_.wanted.load() > waiting) static_cast<void>(make_room());
  serve_waiting(now_us);
  if (now_us < next_second_us_) return;
  next_second_us_ = now_us + kSecondUs;
  sizing_.second();
  close_surplus(now_us);
}

PinnedPoolCounts PinnedPool::counts() const {
  return {in_use_.size(), idle_.size(), wanted_.size(), acquired_, opened_, timeouts_};
}

}  // namespace nearcached::tiers::upstream
