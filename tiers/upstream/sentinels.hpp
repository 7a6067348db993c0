// Which server is the master, by the word of a majority of its sentinels.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tiers/upstream/control_link.hpp"
#include "tiers/upstream/control_plane.hpp"
#include "tiers/upstream/credential_list.hpp"

namespace nearcached::tiers::upstream {

// Asks all sentinels that it knows, those of the configuration and those that they name, at once, and believes an address
// that more than half of all sentinels give: one that is cut off with the old master is outvoted, and as long as nobody is
// sure the old answer stands. How many there are is what the sentinels themselves say, and those that are configured at
// least; who is who, by SENTINEL MYID, since
// a sentinel may be configured by one name and announced by another. A sentinel that has died keeps its vote until SENTINEL
// RESET, as it does among sentinels.
//
// Between rounds one subscription per sentinel to +switch-master says when to ask again at once.
//
// Source: https://redis.io/docs/latest/develop/reference/sentinel-clients/
// Bounds: kSentinelsMax, two links each. What it is bad at: sentinels that announce addresses that can't be reached from
// here; then all of them have to be configured.
//
// Confined to the control loop's thread. Handlers are not called from within ask(), nor after destruction.
class Sentinels {
 public:
  static constexpr std::size_t kSentinelsMax = 32;

  // Without an address: why there is none.
  using Handler = std::function<void(const std::optional<Endpoint>& master, const std::string& why)>;

  // `on_switch`: a sentinel says that there is another master.
  Sentinels(ControlLoop& loop, const ControlPlaneOptions& options, std::function<void()> on_switch);

  // One question at a time.
  void ask(Handler handler);

 private:
  struct Sentinel {
    Endpoint endpoint;
    std::string id;                             // of SENTINEL MYID; its address until that is known
    std::unique_ptr<ControlLink> link;          // of the questions
    std::unique_ptr<ControlLink> subscription;  // to +switch-master
    bool asked = false;                         // an answer is owed in this round
  };

  void ask_one(Sentinel& sentinel);
  void subscribe(Sentinel& sentinel);
  [[nodiscard]] std::unique_ptr<ControlLink> open(const Endpoint& endpoint,
                                                  std::function<void(const ControlReply&)> on_push);
  void on_master(Sentinel& sentinel, std::uint64_t round, const LinkResult& result);
  void on_others(const LinkResult& result);
  void learn(const Endpoint& endpoint);
  void count();
  void end(const std::optional<Endpoint>& master, const std::string& why);

  ControlLoop& loop_;
  const ControlPlaneOptions& options_;
  const std::function<void()> on_switch_;
  std::map<Endpoint, Sentinel> sentinels_;

  // The round that runs.
  std::uint64_t round_ = 0;
  Handler handler_;
  std::size_t total_ = 1;  // sentinels
  std::map<Endpoint, std::set<std::string>> votes_;
  std::map<Endpoint, std::string> troubles_;  // of sentinels that gave no answer
};

// The answer to SENTINEL GET-MASTER-ADDR-BY-NAME; nullopt: none.
[[nodiscard]] std::optional<Endpoint> parse_master_address(const ControlReply& reply);

// A field of a flat list of names and values, as SENTINEL MASTER gives them; empty: it is not there.
[[nodiscard]] std::string field_of(const ControlReply& flat, std::string_view name);

}  // namespace nearcached::tiers::upstream
