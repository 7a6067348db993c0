#include "tiers/fill_connection.hpp"

#include <algorithm>
#include <utility>

#include "tiers/io/clock.hpp"

namespace nearcached::tiers {

using coherence::FillLinkState;

namespace {

// Some 150 invalidations, of which each costs about 2 us: a million keys that expire together must not keep the worker's
// clients waiting.
constexpr std::size_t kReadBytes = 8 * 1024;

}  // namespace

FillConnection::FillConnection(io::EventLoop& loop, io::Resolver& resolver, upstream::Endpoint endpoint,
                               upstream::IdentityPtr identity, std::int64_t connect_timeout_us, const io::Tls* tls,
                               std::unique_ptr<coherence::FillLink> link)
    : endpoint_(std::move(endpoint)),
      identity_(std::move(identity)),
      connect_timeout_us_(connect_timeout_us),
      link_(std::move(link)),
      stream_(loop, *this),
      connector_(loop, resolver, stream_, endpoint_, tls) {
  stream_.read_at_most(kReadBytes);
}

void FillConnection::open(std::int64_t now_us) {
  opening_ = true;
  opened_us_ = now_us;
  connector_.open(failures_);
}

void FillConnection::on_connected() {
  opening_ = false;
  link_->connected(io::boot_us());
  flush();
}

std::size_t FillConnection::on_data(std::string_view bytes) {
  const auto consumed = link_->received(bytes, io::boot_us());
  if (consumed) {
    if (link_->state() == FillLinkState::kServing) failures_ = 0;
    return *consumed;
  }
  broken_ = true;
  stream_.pause();
  return bytes.size();
}

void FillConnection::on_closed(int) { lost(io::boot_us()); }

void FillConnection::close() {
  connector_.cancel();
  stream_.close();
  link_->disconnected();
}

void FillConnection::lost(std::int64_t now_us) {
  opening_ = broken_ = false;
  ++failures_;
  const bool refused = link_->state() == FillLinkState::kRefused;
  retry_at_us_ = now_us + (refused ? kRefusedRetryUs : std::min(kReconnectStepUs * failures_, kReconnectMaxUs));
  close();
}

void FillConnection::tick(std::int64_t now_us) {
  const bool answers = link_->tick(now_us);
  if (!stream_.is_open() && !opening_) {
    if (now_us >= retry_at_us_) open(now_us);
  } else if (!stream_.connected()) {
    if (now_us - opened_us_ > connect_timeout_us_) lost(now_us);
  } else if (broken_ || !answers) {
    lost(now_us);
  }
}

void FillConnection::hurry(std::int64_t now_us) {
  retry_at_us_ = std::min(retry_at_us_, std::max(now_us, opened_us_ + kReconnectStepUs));
}

void FillConnection::flush() {
  std::string& bytes = link_->output();
  if (!bytes.empty() && stream_.connected()) {
    stream_.out().append(bytes);
    bytes.clear();
  }
  if (!stream_.flush()) broken_ = true;
}

}  // namespace nearcached::tiers
