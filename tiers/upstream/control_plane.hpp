// What is asked of the upstream beside the traffic: topology, AUTH of clients, COMMAND INFO of unknown commands.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tiers/io/tls.hpp"
#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::upstream {

// One element of COMMAND INFO's answer.
struct CommandInfo {
  bool known = false;  // false: the upstream does not know the command either
  std::string name;
  std::int16_t arity = 0;
  std::vector<std::string> flags;
  std::int16_t first_key = 0, last_key = 0, key_step = 0;
};

// What is worth a line in the log. Repetitions are left out: a node that goes on refusing with the same words, or
// credentials that go on being refused, are reported once until they have worked again.
struct ControlEvent {
  enum class Kind : std::uint8_t {
    kTopologyChanged,   // a snapshot was published; `text` sums it up
    kTopologyLost,      // every node was asked and none gave an answer to rely on; the last snapshot stays in use
    kTopologyRegained,  // the first good answer after that
    kNodeRefused,       // this node could not be asked or its answer is not relied on: `text` says why
    kAuthRefused        // this node refused the control link's own credentials (not those of check_auth)
  };
  Kind kind;
  Endpoint endpoint;  // the node that answered or refused; the last one asked for kTopologyLost
  std::string text;
};

struct ControlPlaneOptions {
  std::vector<Endpoint> seeds{};  // 1..n; of one server only the first is used
  bool cluster = false;
  std::string sentinel_master{};       // not empty: the seeds are sentinels, and this is what they call their master
  Credentials sentinel_credentials{};  // of the sentinels themselves; may be empty
  Credentials credentials{};           // of the configuration; may be empty
  const io::Tls* tls = nullptr;        // plain
  std::chrono::milliseconds connect_timeout{1000};
  std::chrono::milliseconds command_timeout{1000};
  std::chrono::milliseconds poll_interval{1000};  // topology, jittered by 10 %
  // Asked-for refreshes are not sent more often; doubles up to 1 s while they fail.
  std::chrono::milliseconds refresh_interval_min{50};
  std::function<void(const ControlEvent&)> on_event{};  // called on the control thread; may be empty
};

// Runs a thread of its own with an Asio io_context; its links speak RESP2 through hiredis's reader. All public functions may
// be called from any thread; callbacks are called on the control thread, must not block, and must not call stop().
//
// Topology: CLUSTER SLOTS of one node at a time (the node that answered last, else the next of known nodes and seeds), every
// poll_interval and on request_refresh(). A node that answers with cluster_state:fail, with no slots, or with an older epoch
// than one believed before, is not believed while another may be asked. A nil or empty host in CLUSTER SLOTS means "the
// address you asked". With sentinels the snapshot is the one server that a majority of them calls the master and that calls
// itself one (ROLE); until there is one, a server without an address. Otherwise the snapshot is the one server, published at
// once; INFO server is polled. Where the configured credentials are refused or missing (NOAUTH), those of
// learn_credentials() are tried.
//
// Beside the one topology link, check_auth(), check_select() and command_info() use short-lived links: 64 at once, 1024 more
// wait, what comes on top is refused. Each is over within 2 * connect_timeout + command_timeout, waiting included.
class ControlPlane {
 public:
  using TopologyHandler = std::function<void(TopologyPtr)>;
  // Empty error: accepted. Otherwise the upstream's own error line without '-' and CR LF ("WRONGPASS ..."), or
  // "ERR nearcached: ..." where it could not be asked.
  using AuthHandler = std::function<void(std::string error)>;
  // `reached` false: nobody could be asked.
  using CommandInfoHandler = std::function<void(bool reached, CommandInfo)>;

  ControlPlane(ControlPlaneOptions options, TopologyHandler on_topology);
  ~ControlPlane();  // stop()

  void start();  // returns at once; the first snapshot arrives through the handler
  void stop();   // ends the thread, soon also in the middle of a connect; no callback is called afterwards. Not restartable

  // A worker saw MOVED, a refused or a lost connection. Coalesced and capped.
  void request_refresh();
  // Checks (user, password) with the upstream, on a connection of its own that is closed afterwards.
  void check_auth(Credentials credentials, AuthHandler handler);
  // Checks in the same way whether that user may SELECT that database. All who ask the same at a time, as a herd of clients
  // that come back does, share one question.
  void check_select(Credentials credentials, std::string database, AuthHandler handler);
  // A client authenticated with these: good for topology too.
  void learn_credentials(const Credentials& credentials);
  void command_info(std::string name, CommandInfoHandler handler);
  // For the metrics: time since the last good topology answer was asked for, -1 if there was none. An answer that had to be
  // taken from a node with cluster_state:fail is not good.
  [[nodiscard]] std::int64_t topology_age_ms() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nearcached::tiers::upstream
