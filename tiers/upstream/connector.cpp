#include "tiers/upstream/connector.hpp"

#include <cerrno>
#include <utility>

namespace nearcached::tiers::upstream {
namespace {

// No call on the way to a connected socket fails with it: it stands for a name without an address.
constexpr int kNoAddress = ENXIO;

}  // namespace

Connector::Connector(io::EventLoop& loop, io::Resolver& resolver, io::Stream& stream, Endpoint endpoint, const io::Tls* tls)
    : loop_(loop),
      resolver_(resolver),
      stream_(stream),
      endpoint_(std::move(endpoint)),
      tls_(endpoint_.is_unix() ? nullptr : tls) {}

Connector::~Connector() { *alive_ = false; }

void Connector::open(std::uint32_t attempt) {
  ++round_;
  if (!endpoint_.is_known()) return fail(kNoAddress);
  if (endpoint_.is_unix()) {
    const io::SocketAddress address = io::unix_address(endpoint_.host);
    if (address.length == 0) return fail(ENAMETOOLONG);
    return connect({address}, attempt);
  }
  if (const io::SocketAddress literal = io::literal_address(endpoint_.host, endpoint_.port); literal.length != 0) {
    return connect({literal}, attempt);
  }
  resolver_.look_up(
      endpoint_.host, endpoint_.port,
      [this, alive = alive_, &loop = loop_, round = round_, attempt](std::vector<io::SocketAddress> addresses) {
        loop.post([this, alive, round, attempt, addresses = std::move(addresses)] {
          if (*alive && round == round_ && !stream_.is_open()) connect(addresses, attempt);
        });
      });
}

void Connector::connect(const std::vector<io::SocketAddress>& addresses, std::uint32_t attempt) {
  if (addresses.empty()) return fail(kNoAddress);
  std::unique_ptr<io::TlsSession> session = tls_ == nullptr ? nullptr : tls_->session(endpoint_.host);
  if (tls_ != nullptr && !session) return fail(ENOMEM);
  if (!stream_.connect(addresses[attempt % addresses.size()], std::move(session))) fail(errno);
}

void Connector::fail(int error) {
  loop_.post([this, alive = alive_, round = round_, error] {
    if (*alive && round == round_) stream_.owner().on_closed(error);
  });
}

std::string Connector::error_text(int error) const {
  if (!endpoint_.is_known()) return "no master is known";
  if (error == kNoAddress) return "the name " + endpoint_.host + " has no address";
  return stream_.why(error);
}

}  // namespace nearcached::tiers::upstream
