// One request of a session's own to the upstream, whose reply is not passed on as it comes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "protocol/writer.hpp"
#include "tiers/upstream/request.hpp"

namespace nearcached::daemon {

// Collects the reply and hands it over whole: whether this user may (the ACL is the upstream's), or what is to be put
// together with something of this process's own. One question at a time; who asks lives until it is answered. A reply over
// kReplyMax becomes an error, so that nobody fills the memory with it.
//
// Confined to the session's worker.
class UpstreamQuestion final : public tiers::upstream::ReplySink {
 public:
  using Then = std::function<void(std::string)>;
  static constexpr std::size_t kReplyMax = std::size_t{1} << 20;

  // `then` gets a whole RESP reply; an error if there is none.
  void begin(Then then) {
    reply_.clear();
    then_ = std::move(then);
  }

  void on_reply(std::uint64_t, std::string_view bytes, bool last) override {
    if (reply_.size() <= kReplyMax) reply_.append(bytes);
    if (!last) return;
    if (reply_.size() > kReplyMax) {
      fail("ERR nearcached: the upstream's reply is too large");
    } else {
      std::exchange(then_, nullptr)(std::exchange(reply_, {}));
    }
  }

  void on_failure(std::uint64_t, std::string_view error, bool) override { fail(error); }
  void on_rerouted(std::uint64_t) override {}

 private:
  void fail(std::string_view error) {
    reply_.clear();
    std::string line;
    protocol::append_error(line, error);
    std::exchange(then_, nullptr)(std::move(line));
  }

  Then then_;
  std::string reply_;
};

}  // namespace nearcached::daemon
