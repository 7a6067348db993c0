// What CLIENT LIST says of a client, and which clients CLIENT LIST and CLIENT KILL mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::daemon {

// A client at one moment, collected on its worker's thread and handed to another one: it has no views into the session but
// the command's name, which is the table's.
struct ClientFacts {
  std::uint64_t id = 0;
  std::string address;
  std::string local_address;
  int fd = -1;
  std::string name;
  std::int64_t age_s = 0;
  std::int64_t idle_s = 0;
  std::uint32_t database = 0;
  std::size_t channels = 0;
  std::size_t patterns = 0;
  std::size_t shard_channels = 0;
  std::optional<std::size_t> queued;  // commands behind MULTI
  bool blocked = false;
  bool closing = false;
  bool monitors = false;
  std::size_t input_bytes = 0;
  std::size_t output_bytes = 0;
  std::size_t replies = 0;        // open ones
  std::size_t reply_bytes = 0;    // that wait for their turn
  std::string_view command = {};  // the last one, as Redis names it: "client|list"
  std::string user;
  std::string library_name;
  std::string library_version;
  int protocol = 2;

  [[nodiscard]] bool subscribes() const { return channels + patterns + shard_channels != 0; }
  // The line of CLIENT LIST in Redis 7.0's form, with lib-name and lib-ver of 7.2 at the end. What Redis measures of its own
  // buffers and has no counterpart here is 0.
  [[nodiscard]] std::string line() const;
};

// Which clients are meant; what is not given does not matter.
struct ClientFilter {
  enum class Type : std::uint8_t { kNormal, kPubsub, kReplica, kMaster };

  std::vector<std::uint64_t> ids;  // one of them
  std::optional<std::string> address;
  std::optional<std::string> local_address;
  std::optional<std::string> user;
  std::optional<Type> type;
  std::optional<std::int64_t> min_age_s;
  bool skip_me = false;
  bool old_form = false;  // CLIENT KILL addr:port, which is answered otherwise

  [[nodiscard]] bool matches(const ClientFacts& client, std::uint64_t me) const;
};

// The arguments of CLIENT LIST and CLIENT KILL, names included; at least two, and three. Returns the error in Redis's words,
// empty: none. A user whom nobody has is no error: which users there are is the upstream's knowledge.
[[nodiscard]] std::string parse_client_list(std::span<const std::string_view> args, ClientFilter& filter);
[[nodiscard]] std::string parse_client_kill(std::span<const std::string_view> args, ClientFilter& filter);

}  // namespace nearcached::daemon
