// What the tests of the fill link share: the link among its tables, a clock that stands still, and what it reported.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/writer.hpp"
#include "tiers/coherence/fill_link.hpp"

namespace nearcached::tiers::coherence::testing {

using Command = std::vector<std::string>;

inline constexpr std::int64_t kStart = 50'000'000;
inline constexpr std::int64_t kStaleness = 1'000'000;
inline constexpr std::int64_t kReplyTimeout = 2'000'000;
inline constexpr std::uint16_t kSlot = 100;

inline const std::string kHelloMaster = "%2\r\n+proto\r\n:3\r\n+role\r\n+master\r\n";
inline const std::string kHelloReplica = "%2\r\n+proto\r\n:3\r\n+role\r\n+replica\r\n";
inline const std::string kOk = "+OK\r\n";
// Of COMMAND INFO HPTTL: the server knows it not; it does.
inline const std::string kNoFieldExpiry = "*1\r\n_\r\n";
inline const std::string kFieldExpiry = "*1\r\n*3\r\n$5\r\nhpttl\r\n:-5\r\n*0\r\n";
// The answers to a greeting without credentials, up to the probe.
inline const std::string kGreeted = kHelloMaster + kNoFieldExpiry + kOk;

inline std::string bulk(std::string_view text) {
  return "$" + std::to_string(text.size()) + "\r\n" + std::string(text) + "\r\n";
}
inline std::string push_of(std::string_view key) { return ">2\r\n+invalidate\r\n*1\r\n" + bulk(key); }
inline const std::string kPushAll = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

inline std::string cluster_info(std::string_view state) {
  return bulk("cluster_state:" + std::string(state) + "\r\ncluster_slots_assigned:16384\r\n");
}
inline std::string cluster_nodes(std::string_view flags, std::string_view slots) {
  return bulk("07c3 127.0.0.1:7000@17000 myself," + std::string(flags) + " - 0 0 1 connected" +
              (slots.empty() ? "" : " " + std::string(slots)) + "\n");
}
inline std::string command_stats(std::uint64_t infos, std::uint64_t swaps) {
  std::string text = "# Commandstats\r\ncmdstat_get:calls=7,usec=1\r\n";
  if (swaps != 0) text += "cmdstat_swapdb:calls=" + std::to_string(swaps) + ",usec=1\r\n";
  if (infos != 0) text += "cmdstat_info:calls=" + std::to_string(infos) + ",usec=1\r\n";
  return bulk(text);
}

// The commands in a stream of requests, all whole.
inline std::vector<Command> parse_commands(std::string_view bytes) {
  const auto number = [&] {
    const std::size_t end = bytes.find("\r\n");
    const auto n = std::strtoull(std::string(bytes.substr(1, end - 1)).c_str(), nullptr, 10);
    bytes.remove_prefix(end + 2);
    return n;
  };
  std::vector<Command> commands;
  while (!bytes.empty()) {
    Command& command = commands.emplace_back(number());
    for (std::string& word : command) {
      const std::size_t length = number();
      word = bytes.substr(0, length);
      bytes.remove_prefix(length + 2);
    }
  }
  return commands;
}

struct Filled {
  std::string key;
  bool answered = false;
  bool cacheable = false;
  std::string reply;
  std::int64_t expires_at_us = 0;
  std::int64_t sent_us = 0;
  FillBasis basis;
  std::vector<std::uint64_t> tokens;
  bool installable = false;  // at the moment of the report, by the rules of FillBasis
  bool unwatched = false;
  bool audit = false;
  bool link_is_proof = false;  // did its row prove its generation at that moment?
};

// Does with invalidations what the near cache does: the fence moves before anything else happens.
class Harness final : public FillLinkEvents {
 public:
  explicit Harness(FillLinkOptions options = with_defaults())
      : row(*links.acquire()), link(options, row, fences, epochs, links, *this) {}

  static FillLinkOptions with_defaults() {
    FillLinkOptions options;
    options.swapdb_never = true;
    options.max_staleness_us = kStaleness;
    options.reply_timeout_us = kReplyTimeout;
    return options;
  }
  static FillLinkOptions in_cluster() {
    FillLinkOptions options = with_defaults();
    options.cluster = true;
    return options;
  }

  static std::uint64_t hash(std::string_view key) { return std::hash<std::string_view>()(key); }

  // As the socket does: what was not consumed comes again with more behind it. False: the connection must be closed.
  bool feed(std::string_view bytes) {
    unconsumed_ += bytes;
    const auto consumed = link.received(unconsumed_, now);
    if (!consumed) return false;
    unconsumed_.erase(0, *consumed);
    return true;
  }
  [[nodiscard]] std::size_t unconsumed() const { return unconsumed_.size(); }

  std::vector<Command> commands() {
    std::vector<Command> sent = parse_commands(link.output());
    link.output().clear();
    return sent;
  }
  // A whole probe's good answer.
  [[nodiscard]] static std::string good_probe(const FillLinkOptions& options) {
    return options.cluster ? kHelloMaster + cluster_info("ok") + cluster_nodes("master", "0-16383") : kHelloMaster;
  }
  // The next tick's probe, answered well; everything else that was sent is forgotten.
  void prove(const FillLinkOptions& options = with_defaults()) {
    now += kStaleness / 3;
    if (!link.tick(now)) std::abort();
    if (!feed(good_probe(options))) std::abort();
    commands();
  }
  // Through the greeting; what was sent for it is forgotten.
  void serve(const FillLinkOptions& options = with_defaults()) {
    link.connected(now);
    feed(kGreeted + good_probe(options));
    commands();
    log.clear();
  }
  void lose() {
    unconsumed_.clear();
    link.disconnected();
  }
  bool submit(std::string_view key, std::uint64_t token = 1, std::uint16_t slot = kSlot) {
    std::string command;
    protocol::append_command(command, {"GET", key});
    return link.submit({key, hash(key), slot, command, {}}, {nullptr, token, 0}, now);
  }
  // Any other read: `words` are the command, its key the second of them, its variant its name.
  bool submit_read(const Command& words, std::uint64_t token = 1, protocol::Caching caching = protocol::Caching::kKey,
                   bool audit = false) {
    std::string command;
    protocol::append_command(command, words);
    std::string variant;
    for (std::size_t i = 0; i < words.size(); ++i) variant += i == 1 ? "" : words[i] + " ";
    return link.submit({words[1], hash(words[1]), kSlot, command, variant, caching, audit}, {nullptr, token, 0}, now);
  }
  // Until when the row's entries are verified, under the smallest max_staleness.
  [[nodiscard]] std::int64_t verified_until() const {
    return links.proven_us(row) == 0 ? 0 : links.proven_us(row) + kStaleness;
  }
  [[nodiscard]] bool proves(std::uint32_t generation, std::int64_t at) const {
    return links.generation(row) == generation && at < verified_until();
  }
  [[nodiscard]] bool current(const FillBasis& basis, std::string_view key) const {
    return fences.current(hash(key), basis.fence) && links.generation(basis.link) == basis.generation &&
           epochs.of(basis.slot) == basis.slot_epoch;
  }
  // May the last fill be installed now?
  [[nodiscard]] bool installable() const {
    const Filled& last = filled.back();
    return last.answered && last.cacheable && current(last.basis, last.key);
  }

  FenceTable fences;
  SlotEpochs epochs;
  LinkTable links;
  const std::uint16_t row;
  std::int64_t now = kStart;
  std::vector<Filled> filled;
  std::vector<std::string> log;                       // everything that was reported, in order
  std::pair<std::uint16_t, std::int64_t> own_view{};  // the node's lowest slot, when it was asked
  std::function<void(const Filled&)> when_filled;
  FillLink link;

 private:
  void on_filled(const FillResult& result) override {
    Filled fill{std::string(result.key),
                result.answered,
                result.cacheable,
                std::string(result.reply),
                result.expires_at_us,
                result.sent_us,
                result.basis,
                {},
                false,
                result.unwatched,
                result.audit,
                false};
    for (const FillWaiter& waiter : result.waiters) fill.tokens.push_back(waiter.token);
    fill.installable = result.answered && result.cacheable && current(result.basis, result.key);
    fill.link_is_proof = proves(result.basis.generation, now);
    filled.push_back(fill);
    log.push_back("fill " + fill.key + " " + fill.reply + (fill.installable ? " kept" : " not kept"));
    if (when_filled) when_filled(fill);
  }
  void on_invalidated(std::string_view key) override {
    fences.bump(hash(key));
    log.push_back("invalidated " + std::string(key));
  }
  void on_invalidated_prefix(std::string_view prefix) override {
    fences.bump_all();
    log.push_back("invalidated prefix " + std::string(prefix));
  }
  void on_gap() override { log.push_back("gap"); }
  void on_own_view(std::uint16_t lowest, std::int64_t asked_us) override { own_view = {lowest, asked_us}; }
  void on_slots_moved(std::size_t slots) override { log.push_back("slots moved " + std::to_string(slots)); }
  void on_invalidated_all() override { log.push_back("invalidated all"); }
  void on_state(FillLinkState state, std::string_view reason) override {
    log.push_back("state " + std::to_string(static_cast<int>(state)) + " " + std::string(reason));
  }

  std::string unconsumed_;
};

}  // namespace nearcached::tiers::coherence::testing
