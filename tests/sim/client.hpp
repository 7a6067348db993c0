// A client of a sidecar: sends its commands in pipelines, judges every reply.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/reply_framer.hpp"
#include "protocol/reply_tree.hpp"
#include "tests/sim/script.hpp"
#include "tests/sim/sidecar.hpp"

namespace nearcached::sim {

// Commands of the same instant leave in one piece. A reply is compared with the history when it is here: see History for
// what must hold. A write that was answered with an error, or not at all because the connection broke, has an unknown
// outcome, and nothing follows from it.
class Client final : public Peer {
 public:
  Client(World& world, Sidecar& sidecar, int worker, bool resp3);

  void act(const Action& action);
  // Reads everything; each value must be the present one.
  void read_everything();

  [[nodiscard]] std::size_t unanswered() const { return pending_.size(); }
  [[nodiscard]] std::uint64_t errors() const { return errors_; }
  [[nodiscard]] std::uint64_t reads() const { return reads_; }

  void on_bytes(std::string_view bytes) override;
  void on_closed() override;
  void on_read(std::uint64_t total) override;

 private:
  struct Pending {
    ActionKind kind = ActionKind::kRead;
    ReadKind read = ReadKind::kGet;
    std::vector<std::string> keys;
    std::vector<std::string> texts;  // what is written
    std::vector<std::size_t> floors;
    std::int64_t sent_us = 0;
    std::int64_t arrived_us = 0;
    std::uint64_t end = 0;  // of its bytes in the connection
    bool greeting = false;
    bool final = false;  // must be the present value
    std::string then;    // the key that is read when this is answered
    std::string command;
  };

  void connect();
  void send(Pending pending, const std::vector<std::string>& args);
  void flush();
  void read_next(const Pending& before);
  void judge(const Pending& pending, const protocol::ReplyTree& reply);
  void judge_read(const Pending& pending, std::size_t key, ReadKind kind, const std::string& got);
  void judge_write(const Pending& pending, const protocol::ReplyTree& reply);
  void acknowledge(const Pending& pending, const std::string& key, ReadKind kind, const std::string& written);
  void heard(const std::string& key, std::size_t place);
  void fail(const Pending& pending, const std::string& key, const std::string& what, std::int64_t low_us, std::size_t floor);

  World& world_;
  Sidecar& sidecar_;
  const int worker_;
  const bool resp3_;
  SocketPtr socket_;
  std::string out_;
  bool flush_scheduled_ = false;
  std::string in_;
  std::size_t scanned_ = 0;
  protocol::ReplyFramer framer_;
  protocol::ReplyTree tree_;
  std::uint64_t sent_ = 0;
  std::deque<Pending> pending_;
  std::map<std::string, std::size_t> own_floors_;
  std::map<std::string, std::size_t> heard_floors_;  // of causal keys; for what is sent from now on
  std::uint64_t errors_ = 0;
  std::uint64_t reads_ = 0;
};

}  // namespace nearcached::sim
