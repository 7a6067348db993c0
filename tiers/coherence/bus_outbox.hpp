// What one data connection publishes on the bus, and what is unknown of it when it breaks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tiers/coherence/bus_message.hpp"

namespace nearcached::tiers::coherence {

struct BusOutboxOptions {
  std::uint64_t publisher = 0;                // random, of the process
  std::int64_t heartbeat_us = 1'000'000 / 3;  // a third of the receivers' silence_us
  std::int64_t rest_after_us = 10'000'000;    // without a write for so long a stream ends with a kBye
};

// What a connection took with it. To be published again on another stream, see BusOutbox::republish.
struct BusLost {
  struct Stream {
    std::uint32_t epoch = 0;  // 0: what was published on a channel that was not the right one any more
    std::uint64_t last_sequence = 0;
  };
  std::vector<Stream> streams;        // with what is known to be published of each
  std::vector<std::string> payloads;  // of unknown publication, in order
  bool everything = false;            // there were more than are remembered
  [[nodiscard]] bool empty() const { return streams.empty() && payloads.empty() && !everything; }
};

// Makes the payloads that follow the writes of one data connection. For each write, in one go and in this order:
//
//     announcement(now) -> PUBLISH, unless empty;   the write;   invalidate(keys, now) -> PUBLISH
//
// and the client is answered when the write's and the message's reply are in. All PUBLISH replies of the connection come
// here in order: acknowledged() or refused(). An idle connection has no stream and costs nothing; the announcement opens one
// ahead of the first write, so that peers know of it before the write is executed; it is kept alive by heartbeats and, after
// rest_after_us without a write or a message, ended with a kBye.
//
// Payloads are kept until they are acknowledged, for lost(): at most kRememberedMax and kRememberedBytesMax; what is beyond
// is published again as "everything" if the connection breaks. Bad at: commands that block. Nothing that follows them is
// executed before them, heartbeats included, and peers would call the stream silent: a connection that may block carries no
// stream. Its writes are published on their reply, on the outbox of the node's shared connection, whose stream was announced
// ahead of them and rests later than any command is answered: peers notice if the process dies in between.
// Sans-I/O; confined to the connection's thread. `epochs` is the process's own counter, shared by its outboxes.
class BusOutbox {
 public:
  static constexpr std::size_t kRememberedMax = 16'384;
  static constexpr std::size_t kRememberedBytesMax = std::size_t{4} << 20;

  BusOutbox(BusOutboxOptions options, std::atomic<std::uint32_t>& epochs) : options_(options), epochs_(epochs) {}

  // To be published ahead of the next write; empty if the stream is open and was heard lately.
  [[nodiscard]] std::string announcement(std::int64_t now_us);
  // The keys of one write, at most kBusKeysMax. Of more, and of none (they are not known), it speaks as of everything; a
  // caller that would rather not splits them. Without an announcement() before the write, its receivers see a gap.
  [[nodiscard]] std::string invalidate(std::span<const std::string_view> keys, std::int64_t now_us);
  // kPrefix, kTag or kNamespace; to be published on one connection to every node, each after its announcement().
  [[nodiscard]] std::string purge(BusKind kind, std::string_view text, std::int64_t now_us);
  // Asked every few milliseconds: a heartbeat that is due, the kBye of a stream at rest, or nothing.
  [[nodiscard]] std::string heartbeat(std::int64_t now_us);
  // The stream's end, behind all that it published; empty if there is none.
  [[nodiscard]] std::string bye(std::int64_t now_us);

  // The oldest publish was answered with a number.
  void acknowledged();
  // It was answered with an error (MOVED, NOPERM ...): the stream ends here. The replies that are still to come are counted
  // by the outbox, and the connection may go on with a new stream.
  [[nodiscard]] BusLost refused();
  // The channel of the node is another one now: those who listen there may have missed whatever went to the old one.
  [[nodiscard]] BusLost moved();
  // The connection broke: nothing more comes, and the outbox is as new.
  [[nodiscard]] BusLost lost();

  // To be published, in this order, on this connection, which is another one or the same with another stream. Writes of
  // which the lost messages spoke are answered when all of these are acknowledged.
  [[nodiscard]] std::vector<std::string> republish(const BusLost& lost, std::int64_t now_us);

  [[nodiscard]] bool open() const { return epoch_ != 0; }
  [[nodiscard]] std::size_t awaited() const { return awaited_; }  // messages not acknowledged

 private:
  struct Published {
    std::uint32_t epoch = 0;
    std::uint64_t sequence = 0;  // the last of the stream by then
    std::size_t replies = 1;
    bool forgotten = false;  // numbered, but not remembered
    std::string payload;     // empty: heartbeat, or forgotten
  };

  [[nodiscard]] std::string say(BusKind kind, std::int64_t now_us);
  void open_stream(std::int64_t now_us);
  void remember(const std::string& payload, bool numbered);
  [[nodiscard]] BusLost take();
  void republish_payload(std::string_view payload, std::int64_t now_us, std::vector<std::string>& out);

  const BusOutboxOptions options_;
  std::atomic<std::uint32_t>& epochs_;
  BusMessage message_;
  std::uint32_t epoch_ = 0;  // 0: no stream is open
  std::uint64_t sequence_ = 0;
  std::int64_t published_us_ = 0;  // the last message of any kind
  std::int64_t spoken_us_ = 0;     // the last write, or message but heartbeats

  std::deque<Published> published_;
  std::size_t awaited_ = 0;
  std::size_t skipped_ = 0;  // replies to come of messages that were taken out
  std::size_t remembered_bytes_ = 0;
  BusLost::Stream acknowledged_;
};

}  // namespace nearcached::tiers::coherence
