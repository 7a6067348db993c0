// Everything that can be set, with its default. One struct per section of the YAML; names are the YAML's names.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tiers/io/tls.hpp"
#include "tiers/l1/compressor.hpp"
#include "tiers/l1/store.hpp"
#include "tiers/policies.hpp"
#include "tiers/upstream/topology.hpp"

namespace nearcached::config {

using std::chrono::milliseconds;

// Where clients connect, or where the admin server listens: "HOST:PORT", "[::1]:PORT", "unix:PATH".
using ListenAddress = tiers::upstream::Endpoint;

enum class UpstreamKind : std::uint8_t { kServer, kCluster, kSentinel };

struct UpstreamUrl {
  std::string text;  // as given, password included: never print it (redacted() does)
  UpstreamKind kind = UpstreamKind::kServer;
  std::vector<tiers::upstream::Endpoint> endpoints;  // of kSentinel: the sentinels
  std::string master;                                // of kSentinel: its name there
  tiers::upstream::Credentials credentials;
  std::uint32_t database = 0;
  bool tls = false;
  [[nodiscard]] std::string redacted() const;
};

// Upstream connections that clients have for themselves: transactions, blocking commands, subscriptions.
struct PinnedPool {
  std::size_t min = 10;                  // kept open while they are used; 0..10000
  std::size_t max = 500;                 // of the process; 1..10000
  milliseconds acquire_timeout{10'000};  // 1ms..10min
};

// What the sentinels themselves ask for; what the servers behind them ask for is in Upstream.
struct SentinelAccess {
  std::string username;
  std::string password;       // redacted when printed
  std::string password_file;  // its first line; excludes password
};

struct Upstream {
  UpstreamUrl url;                     // required
  std::string username;                // overrides the URL's
  std::string password;                // overrides the URL's; redacted when printed
  std::string password_file;           // its first line; excludes password
  milliseconds connect_timeout{1000};  // 1ms..1min
  milliseconds command_timeout{1000};  // 1ms..10min
  std::size_t pending_max = 100'000;   // requests in flight per upstream connection; above it readers of clients pause
  PinnedPool pinned_pool{};
  SentinelAccess sentinel{};
  tiers::io::TlsOptions tls{};  // of rediss:// and rediss+cluster://
  bool swapdb_never = false;    // YAML: swapdb: unknown|never
};

struct L1 {
  bool enabled = true;
  tiers::l1::Options store;  // max_bytes (50MB | auto: a quarter of the memory limit), max_items, max_item_bytes, soft_limit
  milliseconds ttl{300'000};                   // an entry lives at most this long; 1ms..7 days
  tiers::l1::CompressionPolicy compression{};  // of keys without a namespace; YAML: {algorithm, min_bytes, dictionary}
};

enum class CoherenceMode : std::uint8_t { kAuto, kTracking, kBus, kTtl };
enum class BusType : std::uint8_t { kNone, kRedis };

// What sidecars tell each other over Pub/Sub of the upstream.
struct Bus {
  BusType type = BusType::kNone;
  std::string channel = "nearcached:invalidation";  // 1..128 bytes without { and }
};

struct Coherence {
  CoherenceMode mode = CoherenceMode::kAuto;  // not auto: no other source of changes will do, and its lack is an error
  tiers::Consistency consistency = tiers::Consistency::kBounded;  // of keys without a namespace
  milliseconds max_staleness{1000};                               // 30ms..1min
  milliseconds max_stale{60'000};                                 // of stale_ok; 1ms..7 days
  std::size_t refill_max = 256;                                   // fills on their way to one node; more wait
  std::uint64_t audit_one_in = 10'000;   // one hit of so many is compared with the upstream; 0: none
  std::uint32_t audit_per_second = 100;  // at most, per worker
  Bus bus;
};

struct WriteBehind {
  bool enabled = false;
  tiers::Durability durability = tiers::Durability::kImmediate;  // of keys without a namespace
  tiers::write_behind::Priority priority = tiers::write_behind::Priority::kNormal;
  std::string log_dir;                                // empty: nothing can be deferred, only eventual
  std::size_t segment_bytes = std::size_t{64} << 20;  // 4KB..1GB
  std::size_t log_max_bytes = std::size_t{1} << 30;   // at least two segments
  std::size_t batch_records = 100;                    // 1..10000
  milliseconds batch_interval{1000};                  // 0..1min
  std::size_t in_flight = 1000;                       // of a node; batch_records..100000
  std::size_t max_records = 1'000'000;                // keys that wait
  std::size_t max_bytes = std::size_t{256} << 20;     // of their keys and values
  milliseconds max_age{60'000};                       // of the oldest that waits, before no more is taken
  milliseconds max_replay_age{24 * 3'600'000};        // of a record that a start replays; 0: any
  bool skip_damaged = false;                          // --wal-skip-damaged: no key of the file
};

// Keys with a prefix. What is not given is as for keys without a namespace.
struct Namespace {
  std::string prefix;  // 1..1024 bytes, unique
  std::optional<tiers::Consistency> consistency;
  std::optional<milliseconds> max_staleness;
  std::optional<milliseconds> max_stale;
  std::optional<milliseconds> l1_ttl;
  std::optional<tiers::l1::Compression> compression;
  std::optional<std::size_t> compression_min_bytes;
  std::optional<bool> compression_dictionary;
  std::optional<tiers::Durability> durability;
  std::optional<tiers::write_behind::Priority> write_priority;
};

// Somebody whom the sidecar itself lets in. What is not allowed is denied; commands of scripts are the upstream's to allow.
struct User {
  std::string name;
  bool nopass = false;
  std::vector<std::string> password_hashes;  // SHA-256, hexadecimal
  std::vector<std::string> password_files;   // first line: a password
  std::vector<std::string> commands;         // "+@all", "-@dangerous", "+get", "-config|set": the last that fits decides
  std::vector<std::string> keys;             // patterns; "%R~pattern": only to be read
  std::vector<std::string> channels;         // patterns
  bool read_only = false;
  std::string upstream_username;  // who this user is there; empty with the passwords: as the sidecar
  std::string upstream_password;
  std::string upstream_password_file;
};

struct Security {
  // "name" or "container|subcommand": refused to everybody, whatever the upstream would say.
  std::vector<std::string> deny_commands{"cluster|addslots",
                                         "cluster|addslotsrange",
                                         "cluster|bumpepoch",
                                         "cluster|delslots",
                                         "cluster|delslotsrange",
                                         "cluster|failover",
                                         "cluster|flushslots",
                                         "cluster|forget",
                                         "cluster|meet",
                                         "cluster|replicate",
                                         "cluster|reset",
                                         "cluster|saveconfig",
                                         "cluster|set-config-epoch",
                                         "cluster|setslot",
                                         "debug",
                                         "failover",
                                         "replicaof",
                                         "shutdown",
                                         "slaveof"};
};

struct Limits {
  std::size_t clients = 10'000;
  std::size_t args = 1024 * 1024;
  std::size_t bulk_bytes = 512u << 20;
  std::size_t inline_bytes = 64u << 10;
  std::size_t output_bytes = 256u << 20;      // unread replies of one client above which it is closed
  std::size_t output_pause_bytes = 1u << 20;  // unread replies of one client above which its requests are not read
  std::size_t pipeline = 4096;                // unanswered requests of one client above which its requests are not read
  std::size_t buffer_bytes = 0;  // all client and upstream buffers; 0 = auto: a quarter of the memory limit, 64MB..1GB
  std::size_t identities = 64;   // (user, password, database) with connections of their own
  milliseconds idle_timeout{0};  // 0: never
  milliseconds tcp_keepalive{300'000};    // 0: off
  milliseconds shutdown_timeout{10'000};  // SIGTERM: what is in flight may take this long
};

// Commands that took long, of all clients.
struct Slowlog {
  milliseconds slower_than{10};  // 0: nothing is logged
  std::size_t max_len = 128;     // 1..100000
};

struct Admin {
  bool enabled = true;  // YAML: listen: off
  ListenAddress listen{"127.0.0.1", 9180};
  std::string token_file;  // empty: no token, and nothing can be changed
};

struct Metrics {
  std::map<std::string, std::string> labels;  // constant labels of every metric
};

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarn, kError };
enum class LogFormat : std::uint8_t { kText, kJson };

struct Log {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
};

struct Settings {
  std::uint32_t threads = 0;  // 0 = auto: the container's CPU quota, at most 4; 1..64
  std::vector<ListenAddress> listen{{"127.0.0.1", 6380}};
  std::vector<ListenAddress> listen_tls;  // YAML: what is written with rediss:// in `listen`
  tiers::io::TlsOptions tls;              // of listen_tls
  bool cluster_emulation = false;
  Upstream upstream;
  L1 l1;
  Coherence coherence;
  WriteBehind write_behind;
  std::vector<Namespace> namespaces;
  Security security;
  std::vector<User> users;  // none: AUTH is the upstream's to judge
  Limits limits;
  Slowlog slowlog;
  Admin admin;
  Metrics metrics;
  Log log;
};

}  // namespace nearcached::config
