// The socket under a fill link: connects it, feeds it, brings it back.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tiers/coherence/fill_link.hpp"
#include "tiers/io/resolver.hpp"
#include "tiers/io/stream.hpp"
#include "tiers/upstream/connector.hpp"
#include "tiers/upstream/identity.hpp"

namespace nearcached::tiers {

// Holds no policy: coherence::FillLink says what to send and when the connection is of no use any more. Reconnects after
// 50 ms x failures in a row, at most kReconnectMaxUs; a node that refused tracking is asked again every kRefusedRetryUs,
// because a failover or an upgrade may have put another server there.
// Threading: confined to the worker that owns the node's fills.
class FillConnection final : public io::StreamOwner {
 public:
  static constexpr std::int64_t kReconnectStepUs = 50'000;
  static constexpr std::int64_t kReconnectMaxUs = 1'000'000;
  static constexpr std::int64_t kRefusedRetryUs = 10'000'000;

  FillConnection(io::EventLoop& loop, io::Resolver& resolver, upstream::Endpoint endpoint, upstream::IdentityPtr identity,
                 std::int64_t connect_timeout_us, const io::Tls* tls, std::unique_ptr<coherence::FillLink> link);

  [[nodiscard]] coherence::FillLink& link() { return *link_; }
  [[nodiscard]] const coherence::FillLink& link() const { return *link_; }
  [[nodiscard]] const upstream::Endpoint& endpoint() const { return endpoint_; }
  [[nodiscard]] const upstream::IdentityPtr& identity() const { return identity_; }

  void tick(std::int64_t now_us);
  // Somebody waits for it: it is connected again at once, if the last attempt is kReconnectStepUs ago.
  void hurry(std::int64_t now_us);
  void flush();
  void close();

 private:
  void on_connected() override;
  std::size_t on_data(std::string_view bytes) override;
  void on_closed(int error) override;
  void open(std::int64_t now_us);
  void lost(std::int64_t now_us);

  const upstream::Endpoint endpoint_;
  const upstream::IdentityPtr identity_;
  const std::int64_t connect_timeout_us_;
  std::unique_ptr<coherence::FillLink> link_;
  io::Stream stream_;
  upstream::Connector connector_;
  bool opening_ = false;
  bool broken_ = false;  // to be closed at the next tick: never from inside a call of the link
  std::int64_t opened_us_ = 0;
  std::int64_t retry_at_us_ = 0;
  std::uint32_t failures_ = 0;
};

}  // namespace nearcached::tiers
