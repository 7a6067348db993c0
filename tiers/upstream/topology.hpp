// Which node serves which slot: an immutable snapshot, made by the control plane, read by every worker.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "protocol/key_slot.hpp"

namespace nearcached::tiers::upstream {

// Where a server listens. `host` is an address, a name, or (with port 0) the path of a unix socket. Empty: it is not known
// where, nobody can connect.
struct Endpoint {
  std::string host;
  std::uint16_t port = 0;
  [[nodiscard]] bool is_unix() const { return port == 0; }
  [[nodiscard]] bool is_known() const { return !host.empty(); }
  [[nodiscard]] std::string text() const {
    if (!is_known()) return "(no master is known)";
    return is_unix() ? "unix:" + host : host + ":" + std::to_string(port);
  }
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
  friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

struct Credentials {
  std::string user;      // empty: the default user (AUTH password)
  std::string password;  // empty together with user: no AUTH is sent
  [[nodiscard]] bool empty() const { return user.empty() && password.empty(); }
  friend bool operator==(const Credentials&, const Credentials&) = default;
};

struct Topology {
  static constexpr std::uint16_t kNoNode = 0xffff;

  bool cluster = false;
  std::uint64_t version = 0;        // grows with every published change
  std::vector<Endpoint> primaries;  // in a cluster those with slots, or that were named by one; else the one server
  std::array<std::uint16_t, protocol::kSlotCount>
      owner{};                 // slot -> index into primaries, or kNoNode; all 0 without cluster
  std::string server_version;  // "7.0.15", empty until known

  [[nodiscard]] const Endpoint* node_of(std::uint16_t slot) const {
    const std::uint16_t index = owner[slot];
    return index == kNoNode ? nullptr : &primaries[index];
  }
};

using TopologyPtr = std::shared_ptr<const Topology>;

}  // namespace nearcached::tiers::upstream
