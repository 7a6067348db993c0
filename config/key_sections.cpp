#include "config/key_sections.hpp"

#include <algorithm>
#include <iterator>

#include "config/address.hpp"
#include "config/key_types.hpp"
#include "config/namespaces.hpp"
#include "config/upstream_url.hpp"
#include "config/users.hpp"

namespace nearcached::config {
namespace {

using enum Quantity;

constexpr std::uint64_t kKiB = 1ull << 10;
constexpr std::uint64_t kMiB = 1ull << 20;
constexpr std::uint64_t kGiB = 1ull << 30;

constexpr std::size_t kListenMax = 16;
constexpr std::string_view kTlsScheme = "rediss://";
constexpr const char* kPath = "the path of a file in PEM format";
constexpr std::size_t kLabelsMax = 32;
constexpr std::size_t kLabelValueMax = 256;
constexpr std::size_t kChannelMax = 128;

// A single address stands for a list of one.
Problem read_addresses(const Value& value, std::vector<ListenAddress>& plain, std::vector<ListenAddress>& tls) {
  if (value.kind == Value::Kind::kNull) return {"has no value", value.line};
  if (value.kind == Value::Kind::kMap) return {"a map is not a list of addresses", value.line};
  const std::vector<Value> items = value.kind == Value::Kind::kScalar ? std::vector<Value>{value} : value.items;
  if (items.empty()) return {"the list is empty", value.line};
  if (items.size() > kListenMax) return {"the list is longer than " + std::to_string(kListenMax), value.line};
  for (const Value& item : items) {
    const bool secure = item.text.starts_with(kTlsScheme);
    const std::string text = secure ? item.text.substr(kTlsScheme.size()) : item.text;
    const auto address = item.kind == Value::Kind::kScalar ? parse_listen(text) : std::nullopt;
    if (!address || (secure && address->is_unix())) return {describe(item) + " is not an address", item.line};
    for (const auto* others : {&plain, &tls}) {
      if (std::find(others->begin(), others->end(), *address) != others->end()) {
        return {describe(item) + " is listed twice", item.line};
      }
    }
    (secure ? tls : plain).push_back(*address);
  }
  return {};
}

Key listen_key() {
  Key key;
  key.path = "listen";
  key.type = "list";
  key.allowed = "1 to 16 of HOST:PORT, [IPV6]:PORT, rediss://HOST:PORT or unix:PATH";
  key.description = "Where clients connect; with TLS at those written with rediss://.";
  key.set = [](Settings& settings, const Value& value) -> Problem {
    std::vector<ListenAddress> plain;
    std::vector<ListenAddress> tls;
    if (Problem problem = read_addresses(value, plain, tls); !problem.text.empty()) return problem;
    settings.listen = std::move(plain);
    settings.listen_tls = std::move(tls);
    return {};
  };
  key.print = [](const Settings& settings) {
    Value value = Value::of(Value::Kind::kList);
    for (const auto& address : settings.listen) value.items.push_back(Value::scalar(address_text(address)));
    for (const auto& address : settings.listen_tls) {
      value.items.push_back(Value::scalar(std::string(kTlsScheme) + address_text(address)));
    }
    return value;
  };
  return key;
}

Key url_key() {
  Key key;
  key.path = "upstream.url";
  key.type = "URL";
  key.allowed =
      "redis://[user:password@]host[:port][/database], redis+cluster://[user:password@]host[:port],..., "
      "redis+sentinel://[user:password@]host[:port],.../master[/database], the same with rediss for TLS, or unix:/path";
  key.description = "The server or the cluster behind this sidecar. Required; the port is 6379 if none is given.";
  key.example = "redis+cluster://10.0.0.1:6379,10.0.0.2:6379";
  key.set = [](Settings& settings, const Value& value) -> Problem {
    std::string text;
    if (Problem problem = read_scalar(value, "a URL", text); !problem.text.empty()) return problem;
    const std::string problem = parse_upstream_url(text, settings.upstream.url);
    if (problem.empty()) return {};
    return {describe(Value::scalar(redact_unparsed_url(text))) + ": " + problem, value.line};
  };
  key.print = [](const Settings& settings) { return Value::scalar(settings.upstream.url.redacted()); };
  return key;
}

template <class Access>
Key secret_key(std::string path, std::string description, Access access) {
  Key key;
  key.path = std::move(path);
  key.type = "secret";
  key.allowed = "text, at most 4096 bytes";
  key.description = std::move(description);
  key.set = [access](Settings& settings, const Value& value) -> Problem {
    std::string text;
    if (Problem problem = read_scalar(value, "text", text); !problem.text.empty()) return problem;
    if (text.size() > kTextMax) return {"the value is longer than 4KB", value.line};
    access(settings) = std::move(text);
    return {};
  };
  key.print = [access](const Settings& settings) {
    return Value::scalar(access(settings).empty() ? std::string{} : std::string(kRedacted));
  };
  return key;
}

Key admin_listen_key() {
  Key key;
  key.path = "admin.listen";
  key.type = "address";
  key.allowed = "HOST:PORT, [IPV6]:PORT or off";
  key.description = "Where /metrics, /livez, /readyz, /stats and /config are served.";
  key.set = [](Settings& settings, const Value& value) -> Problem {
    std::string text;
    if (Problem problem = read_scalar(value, "an address", text); !problem.text.empty()) return problem;
    if (text == "off") {
      settings.admin.enabled = false;
      return {};
    }
    const auto address = parse_host_port(text, 0);
    if (!address) return {describe(value) + " is not an address", value.line};
    settings.admin.enabled = true;
    settings.admin.listen = *address;
    return {};
  };
  key.print = [](const Settings& settings) {
    return Value::scalar(settings.admin.enabled ? address_text(settings.admin.listen) : "off");
  };
  return key;
}

// Names as Prometheus has them; "__" is its own, le and quantile belong to histograms and summaries.
bool is_label_name(std::string_view name) {
  if (name.empty() || name.starts_with("__") || name == "le" || name == "quantile") return false;
  if (name.front() >= '0' && name.front() <= '9') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

Problem read_labels(const Value& value, std::map<std::string, std::string>& labels) {
  if (value.kind == Value::Kind::kNull) return {"has no value", value.line};
  if (value.kind != Value::Kind::kMap) return {describe(value) + " is not a map of labels", value.line};
  if (value.entries.size() > kLabelsMax)
    return {"there are more than " + std::to_string(kLabelsMax) + " labels", value.line};
  for (const MapEntry& entry : value.entries) {
    if (!is_label_name(entry.name)) return {"\"" + entry.name + "\" can't be the name of a label", entry.line};
    std::string text;
    if (Problem problem = read_text(entry.value, text); !problem.text.empty()) {
      return {"label " + entry.name + ": " + problem.text, entry.line};
    }
    if (text.size() > kLabelValueMax) return {"label " + entry.name + " is longer than 256 bytes", entry.line};
    if (!labels.emplace(entry.name, std::move(text)).second) return {"label " + entry.name + " is given twice", entry.line};
  }
  return {};
}

Key labels_key() {
  Key key;
  key.path = "metrics.labels";
  key.type = "map";
  key.allowed =
      "up to 32 of NAME: VALUE, the name of letters, digits and _, not le, not quantile, not beginning with a digit or __";
  key.description = "Labels added to every metric.";
  key.set = [](Settings& settings, const Value& value) -> Problem {
    std::map<std::string, std::string> labels;
    if (Problem problem = read_labels(value, labels); !problem.text.empty()) return problem;
    settings.metrics.labels = std::move(labels);
    return {};
  };
  key.print = [](const Settings& settings) {
    Value value = Value::of(Value::Kind::kMap);
    for (const auto& [name, text] : settings.metrics.labels) value.entries.push_back({name, 0, Value::scalar(text)});
    return value;
  };
  return key;
}

std::vector<Key> process_keys() {
  return {
      quantity_key(
          kInteger, "threads", {.min = 1, .max = 64, .zero_word = "auto"},
          "Workers that serve clients; auto: the container's CPU quota rounded up, at most 4.",
          [](auto& s) -> auto& { return s.threads; }),
      listen_key(),
      bool_key(
          "cluster_emulation",
          "For clients in cluster mode: CLUSTER SLOTS, SHARDS, NODES and the like show one node with all slots, this "
          "sidecar.",
          [](auto& s) -> auto& { return s.cluster_emulation; }),
      text_key(
          "tls.cert", kPath,
          "The certificate that is shown to clients, with the chain behind it; read again when it changes.",
          [](auto& s) -> auto& { return s.tls.cert; }),
      text_key(
          "tls.key", kPath, "Its key.", [](auto& s) -> auto& { return s.tls.key; }),
      text_key(
          "tls.ca", kPath, "The authorities whose certificates clients may show.",
          [](auto& s) -> auto& { return s.tls.ca; }),
      word_key(
          "tls.client_auth", "word",
          Words<tiers::io::TlsClientAuth, 3>{{{"none", tiers::io::TlsClientAuth::kNone},
                                              {"optional", tiers::io::TlsClientAuth::kOptional},
                                              {"required", tiers::io::TlsClientAuth::kRequired}}},
          "Whether clients must show a certificate.", [](auto& s) -> auto& { return s.tls.client_auth; }),
  };
}

std::vector<Key> upstream_access_keys() {
  return {
      text_key(
          "upstream.sentinel.username", "text, at most 4096 bytes, no control characters",
          "What the sentinels of redis+sentinel:// ask for; the servers behind them get upstream.username.",
          [](auto& s) -> auto& { return s.upstream.sentinel.username; }),
      secret_key(
          "upstream.sentinel.password", "The sentinels' password; excludes password_file, which is the better place.",
          [](auto& s) -> auto& { return s.upstream.sentinel.password; }),
      text_key(
          "upstream.sentinel.password_file", "the path of a readable file, its first line the password",
          "Where the sentinels' password is read from; excludes password.",
          [](auto& s) -> auto& { return s.upstream.sentinel.password_file; }),
      text_key(
          "upstream.tls.ca", kPath, "The authorities that the upstream's certificate may be of; empty: the system's.",
          [](auto& s) -> auto& { return s.upstream.tls.ca; }),
      text_key(
          "upstream.tls.cert", kPath, "The certificate that is shown to the upstream, if it asks.",
          [](auto& s) -> auto& { return s.upstream.tls.cert; }),
      text_key(
          "upstream.tls.key", kPath, "Its key.", [](auto& s) -> auto& { return s.upstream.tls.key; }),
      word_key(
          "upstream.tls.verify", "word",
          Words<tiers::io::TlsVerify, 3>{{{"full", tiers::io::TlsVerify::kFull},
                                          {"ca", tiers::io::TlsVerify::kCa},
                                          {"none", tiers::io::TlsVerify::kNone}}},
          "full: the upstream's certificate must be of a known authority and for the name, or the address, that is "
          "connected "
          "to; ca: for any name; none: any certificate.",
          [](auto& s) -> auto& { return s.upstream.tls.verify; }),
      text_key(
          "upstream.tls.server_name", "a host name or an address",
          "What the upstream's certificates must be for, whatever address is connected to, and what is sent as SNI.",
          [](auto& s) -> auto& { return s.upstream.tls.server_name; }),
  };
}

std::vector<Key> upstream_keys() {
  return {
      url_key(),
      text_key(
          "upstream.username", "text, at most 4096 bytes, no control characters", "Overrides the URL's.",
          [](auto& s) -> auto& { return s.upstream.username; }),
      secret_key(
          "upstream.password", "Overrides the URL's; excludes password_file, which is the better place.",
          [](auto& s) -> auto& { return s.upstream.password; }),
      text_key(
          "upstream.password_file", "the path of a readable file, its first line the password",
          "Where the password is read from; excludes password.", [](auto& s) -> auto& { return s.upstream.password_file; }),
      quantity_key(
          kDuration, "upstream.connect_timeout", {.min = 1, .max = kMinute},
          "A connection that is not there after this long is given up.",
          [](auto& s) -> auto& { return s.upstream.connect_timeout; }),
      quantity_key(
          kDuration, "upstream.command_timeout", {.min = 1, .max = 10 * kMinute},
          "A command without a reply after this long is answered with an error.",
          [](auto& s) -> auto& { return s.upstream.command_timeout; }),
      quantity_key(
          kInteger, "upstream.pending_max", {.min = 1, .max = 10'000'000},
          "Requests in flight per upstream connection, above which clients are not read.",
          [](auto& s) -> auto& { return s.upstream.pending_max; }),
      quantity_key(
          kInteger, "upstream.pinned_pool.min", {.min = 0, .max = 10'000},
          "Connections for clients that need one of their own which stay open while such clients come.",
          [](auto& s) -> auto& { return s.upstream.pinned_pool.min; }),
      quantity_key(
          kInteger, "upstream.pinned_pool.max", {.min = 1, .max = 10'000},
          "Connections of that kind at most, of all clients together: one for each client that subscribes, blocks, watches "
          "or is in a transaction at a time.",
          [](auto& s) -> auto& { return s.upstream.pinned_pool.max; }),
      quantity_key(
          kDuration, "upstream.pinned_pool.acquire_timeout", {.min = 1, .max = 10 * kMinute},
          "A client that needs such a connection while all are in use gets an error after this long.",
          [](auto& s) -> auto& { return s.upstream.pinned_pool.acquire_timeout; }),
      word_key(
          "upstream.swapdb", "word", Words<bool, 2>{{{"unknown", false}, {"never", true}}},
          "never: nobody uses SWAPDB on this upstream, which it does not announce; needed to cache from one server.",
          [](auto& s) -> auto& { return s.upstream.swapdb_never; }),
  };
}

std::vector<Key> l1_keys() {
  return {
      bool_key(
          "l1.enabled", "false: everything goes to the upstream.", [](auto& s) -> auto& { return s.l1.enabled; }),
      quantity_key(
          kBytes, "l1.max_bytes", {.min = kMiB, .max = 1024 * kGiB, .zero_word = "auto"},
          "All that L1 may hold, its own bookkeeping included; auto: a quarter of the memory limit.",
          [](auto& s) -> auto& { return s.l1.store.max_bytes; }),
      quantity_key(
          kInteger, "l1.max_items", {.min = 0, .max = 1'000'000'000, .zero_means = "unlimited"}, "Entries that L1 may hold.",
          [](auto& s) -> auto& { return s.l1.store.max_items; }),
      quantity_key(
          kBytes, "l1.max_item_bytes", {.min = 64, .max = 512 * kMiB},
          "Largest entry, key and reply together; larger ones are not cached.",
          [](auto& s) -> auto& { return s.l1.store.max_item_bytes; }),
      quantity_key(
          kDuration, "l1.ttl", kL1Ttl,
          "An entry lives at most this long, and never longer than its TTL upstream. In ttl and bus mode it is the bound "
          "for "
          "what nobody signals.",
          [](auto& s) -> auto& { return s.l1.ttl; }),
      fraction_key(
          "l1.soft_limit", 0.1, 1, "Share of max_bytes above which entries are evicted in the background.",
          [](auto& s) -> auto& { return s.l1.store.soft_limit; }),
  };
}

std::vector<Key> compression_keys() {
  return {
      word_key(
          "l1.compression.algorithm", "word", kCompressionWords,
          "How the replies of keys without a namespace are kept: compressed, each hit pays for it "
          "(figures: docs/decisions).",
          [](auto& s) -> auto& { return s.l1.compression.algorithm; }),
      quantity_key(
          kBytes, "l1.compression.min_bytes", kCompressionMinBytes,
          "Smaller replies are kept plain, and so are those that compression does not shrink by an eighth.",
          [](auto& s) -> auto& { return s.l1.compression.min_bytes; }),
      bool_key(
          "l1.compression.dictionary",
          "With zstd: a dictionary is trained from the first replies that are kept, for those of 64 bytes and more; all "
          "dictionaries together take at most an eighth of max_bytes.",
          [](auto& s) -> auto& { return s.l1.compression.dictionary; }),
  };
}

std::vector<Key> write_behind_keys() {
  return {
      bool_key(
          "write_behind.enabled", "false: every write is answered by the upstream.",
          [](auto& s) -> auto& { return s.write_behind.enabled; }),
      word_key(
          "write_behind.durability", "word", kDurabilityWords,
          "When a write of keys without a namespace is answered: by the upstream, once it is durable in the local log, or "
          "at "
          "once, and then a crash may lose it.",
          [](auto& s) -> auto& { return s.write_behind.durability; }),
      word_key(
          "write_behind.priority", "word", kPriorityWords, "Of writes of these keys among those that wait to be flushed.",
          [](auto& s) -> auto& { return s.write_behind.priority; }),
      text_key(
          "write_behind.log_dir", "the path of a directory on a local volume that outlives the process",
          "Where the log is; needed where anything is deferred.", [](auto& s) -> auto& { return s.write_behind.log_dir; }),
      quantity_key(
          kBytes, "write_behind.segment_bytes", {.min = 4096, .max = kGiB}, "Size of a file of the log.",
          [](auto& s) -> auto& { return s.write_behind.segment_bytes; }),
      quantity_key(
          kBytes, "write_behind.log_max_bytes", {.min = 8192, .max = 1024 * kGiB},
          "What the log's files may take together, at least two segments; above it writes go through.",
          [](auto& s) -> auto& { return s.write_behind.log_max_bytes; }),
      quantity_key(
          kInteger, "write_behind.batch_records", {.min = 1, .max = 10'000},
          "So many writes that wait for a node leave at once.",
          [](auto& s) -> auto& { return s.write_behind.batch_records; }),
      quantity_key(
          kDuration, "write_behind.batch_interval", {.min = 0, .max = kMinute},
          "... or fewer of them, when the oldest has waited so long.",
          [](auto& s) -> auto& { return s.write_behind.batch_interval; }),
      quantity_key(
          kInteger, "write_behind.in_flight", {.min = 1, .max = 100'000},
          "Flushed writes of one node that may be unanswered, at least batch_records.",
          [](auto& s) -> auto& { return s.write_behind.in_flight; }),
      quantity_key(
          kInteger, "write_behind.max_records", {.min = 1, .max = 100'000'000},
          "Keys that wait to be flushed; above it writes go through.",
          [](auto& s) -> auto& { return s.write_behind.max_records; }),
      quantity_key(
          kBytes, "write_behind.max_bytes", {.min = 64 * kKiB, .max = 1024 * kGiB},
          "What their keys and values may take together; above it writes go through.",
          [](auto& s) -> auto& { return s.write_behind.max_bytes; }),
      quantity_key(
          kDuration, "write_behind.max_age", {.min = 1000, .max = 7 * kDay},
          "When the oldest of them has waited so long, writes go through.",
          [](auto& s) -> auto& { return s.write_behind.max_age; }),
      quantity_key(
          kDuration, "write_behind.max_replay_age", {.min = 0, .max = 365 * kDay, .zero_means = "any"},
          "A start replays what the last process had not flushed, but no record older than this, which it reports.",
          [](auto& s) -> auto& { return s.write_behind.max_replay_age; }),
  };
}

Key bus_channel_key() {
  Key key = text_key(
      "coherence.bus.channel", "1 to 128 bytes without {, } and control characters",
      "The channel, or in a cluster the beginning of the channels; the same for all sidecars of an upstream.",
      [](auto& s) -> auto& { return s.coherence.bus.channel; });
  key.set = [](Settings& settings, const Value& value) -> Problem {
    std::string text;
    if (Problem problem = read_text(value, text); !problem.text.empty()) return problem;
    if (text.empty() || text.size() > kChannelMax || text.find_first_of("{}") != std::string::npos) {
      return {describe(value) + " can't be the name of a channel", value.line};
    }
    settings.coherence.bus.channel = std::move(text);
    return {};
  };
  return key;
}

std::vector<Key> coherence_keys() {
  using enum CoherenceMode;
  return {
      word_key(
          "coherence.mode", "word",
          Words<CoherenceMode, 4>{{{"auto", kAuto}, {"tracking", kTracking}, {"bus", kBus}, {"ttl", kTtl}}},
          "How changes are heard of; auto: the best that each node offers, tracking before bus (if it has a type) before "
          "ttl; "
          "any other: that one, and its lack is an error.",
          [](auto& s) -> auto& { return s.coherence.mode; }),
      word_key(
          "coherence.consistency", "word", kConsistencyWords,
          "What a hit of keys without a namespace must be proven to be: docs/consistency.md has the levels.",
          [](auto& s) -> auto& { return s.coherence.consistency; }),
      quantity_key(
          kDuration, "coherence.max_staleness", kMaxStaleness,
          "A value served from L1 was the upstream's at some instant no longer ago than this; in bus mode that is said of "
          "writes through sidecars, in ttl mode l1.ttl is the bound.",
          [](auto& s) -> auto& { return s.coherence.max_staleness; }),
      quantity_key(
          kDuration, "coherence.max_stale", kMaxStale,
          "With stale_ok: how long after its last proof an entry may be served while its node can't be proven; its l1.ttl "
          "ends it sooner.",
          [](auto& s) -> auto& { return s.coherence.max_stale; }),
  };
}

std::vector<Key> coherence_work_keys() {
  return {
      quantity_key(
          kInteger, "coherence.refill_max", {.min = 1, .max = 100'000},
          "Reads for L1 in flight per upstream node; more wait their turn, which bounds the reload after an outage.",
          [](auto& s) -> auto& { return s.coherence.refill_max; }),
      quantity_key(
          kInteger, "coherence.audit_one_in", {.min = 1, .max = 1'000'000'000, .zero_allowed = true, .zero_means = "off"},
          "One hit of so many is compared with the upstream.", [](auto& s) -> auto& { return s.coherence.audit_one_in; }),
      quantity_key(
          kInteger, "coherence.audit_per_second", {.min = 1, .max = 100'000},
          "At most so many hits are compared per second and worker.",
          [](auto& s) -> auto& { return s.coherence.audit_per_second; }),
      word_key(
          "coherence.bus.type", "word", Words<BusType, 2>{{{"none", BusType::kNone}, {"redis", BusType::kRedis}}},
          "What sidecars tell each other of their writes over; redis: the upstream's own Pub/Sub. Mode bus needs it.",
          [](auto& s) -> auto& { return s.coherence.bus.type; }),
      bus_channel_key(),
  };
}

Key deny_commands_key() {
  Key key;
  key.path = "security.deny_commands";
  key.type = "list";
  key.allowed = "up to 256 names of commands, \"container|subcommand\" for one of a container";
  key.description =
      "What nobody may do from here, whatever the upstream's ACL says; [] leaves it all to that. The default is what would "
      "take the upstream away from everybody.";
  key.text_form = TextForm::kYaml;
  key.set = [](Settings& settings, const Value& value) -> Problem {
    return read_texts(value, settings.security.deny_commands);
  };
  key.print = [](const Settings& settings) { return print_texts(settings.security.deny_commands); };
  return key;
}

std::vector<Key> namespace_keys() { return {namespaces_key()}; }
std::vector<Key> security_keys() { return {deny_commands_key(), users_key()}; }

std::vector<Key> limit_size_keys() {
  return {
      quantity_key(
          kInteger, "limits.clients", {.min = 1, .max = 1'000'000}, "Client connections.",
          [](auto& s) -> auto& { return s.limits.clients; }),
      quantity_key(
          kInteger, "limits.args", {.min = 16, .max = 16 * kMiB}, "Arguments of one command.",
          [](auto& s) -> auto& { return s.limits.args; }),
      quantity_key(
          kBytes, "limits.bulk_bytes", {.min = kKiB, .max = 4 * kGiB}, "Length of one argument (Redis: proto-max-bulk-len).",
          [](auto& s) -> auto& { return s.limits.bulk_bytes; }),
      quantity_key(
          kBytes, "limits.inline_bytes", {.min = kKiB, .max = kMiB}, "Length of an inline command.",
          [](auto& s) -> auto& { return s.limits.inline_bytes; }),
      quantity_key(
          kBytes, "limits.output_bytes", {.min = 64 * kKiB, .max = 16 * kGiB},
          "Unread replies of one client, above which it is closed.", [](auto& s) -> auto& { return s.limits.output_bytes; }),
      quantity_key(
          kBytes, "limits.output_pause_bytes", {.min = kKiB, .max = 16 * kGiB},
          "Unread replies of one client, above which its requests are not read; at most output_bytes.",
          [](auto& s) -> auto& { return s.limits.output_pause_bytes; }),
      quantity_key(
          kInteger, "limits.pipeline", {.min = 1, .max = kMiB},
          "Unanswered requests of one client, above which its requests are not read.",
          [](auto& s) -> auto& { return s.limits.pipeline; }),
      quantity_key(
          kBytes, "limits.buffer_bytes", {.min = 16 * kMiB, .max = 1024 * kGiB, .zero_word = "auto"},
          "All buffers of clients and upstream together; auto: a quarter of the memory limit, 64MB to 1GB.",
          [](auto& s) -> auto& { return s.limits.buffer_bytes; }),
      quantity_key(
          kInteger, "limits.identities", {.min = 1, .max = 4096},
          "Users (name, password and selected database) with upstream connections of their own.",
          [](auto& s) -> auto& { return s.limits.identities; }),
  };
}

std::vector<Key> limit_time_keys() {
  return {
      quantity_key(
          kDuration, "limits.idle_timeout", {.min = kSecond, .max = 7 * kDay, .zero_allowed = true, .zero_means = "never"},
          "A client silent for this long is closed.", [](auto& s) -> auto& { return s.limits.idle_timeout; }),
      quantity_key(
          kDuration, "limits.tcp_keepalive", {.min = kSecond, .max = kDay, .zero_allowed = true, .zero_means = "off"},
          "Silence after which TCP asks a client whether it is still there.",
          [](auto& s) -> auto& { return s.limits.tcp_keepalive; }),
      quantity_key(
          kDuration, "limits.shutdown_timeout", {.min = 0, .max = 10 * kMinute},
          "After SIGTERM, what is in flight may take this long.",
          [](auto& s) -> auto& { return s.limits.shutdown_timeout; }),
  };
}

std::vector<Key> slowlog_keys() {
  return {
      quantity_key(
          kDuration, "slowlog.slower_than", {.min = 1, .max = kDay, .zero_allowed = true, .zero_means = "off"},
          "A command answered later than this after it was read is in SLOWLOG GET of this process, and in LATENCY.",
          [](auto& s) -> auto& { return s.slowlog.slower_than; }),
      quantity_key(
          kInteger, "slowlog.max_len", {.min = 1, .max = 100'000}, "Commands that SLOWLOG keeps, the newest.",
          [](auto& s) -> auto& { return s.slowlog.max_len; }),
  };
}

std::vector<Key> observation_keys() {
  using Level = LogLevel;
  return {
      admin_listen_key(),
      text_key(
          "admin.token_file", "the path of a readable file, its first line the token",
          "The bearer token that all but /livez, /readyz and /metrics wants, and that permits POST /purge.",
          [](auto& s) -> auto& { return s.admin.token_file; }),
      labels_key(),
      word_key(
          "log.level", "word",
          Words<Level, 4>{
              {{"debug", Level::kDebug}, {"info", Level::kInfo}, {"warn", Level::kWarn}, {"error", Level::kError}}},
          "Least severe event that is logged.", [](auto& s) -> auto& { return s.log.level; }),
      word_key(
          "log.format", "word", Words<LogFormat, 2>{{{"text", LogFormat::kText}, {"json", LogFormat::kJson}}},
          "How a line is written.", [](auto& s) -> auto& { return s.log.format; }),
  };
}

}  // namespace

std::vector<Key> make_schema() {
  std::vector<Key> keys;
  for (auto* section : {process_keys, upstream_keys, upstream_access_keys, l1_keys, compression_keys, coherence_keys,
                        coherence_work_keys, write_behind_keys, namespace_keys, security_keys, limit_size_keys,
                        limit_time_keys, slowlog_keys, observation_keys}) {
    std::vector<Key> part = section();
    std::move(part.begin(), part.end(), std::back_inserter(keys));
  }
  return keys;
}

}  // namespace nearcached::config
