// SELECT. A client's database is part of its identity, so that to enter one is to take other connections and another realm
// of L1. Whether there is such a database, and whether this user may enter it, is asked of the upstream once: connections
// that greet with a SELECT that is refused would answer everything with that error.
#include <charconv>
#include <limits>
#include <utility>

#include "daemon/session.hpp"
#include "daemon/worker.hpp"
#include "protocol/writer.hpp"

namespace nearcached::daemon {

namespace {

// As Redis reads numbers: no sign but a minus, no leading zeros.
bool parse_number(std::string_view text, std::int64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && std::to_string(number) == text;
}

}  // namespace

bool Session::select(const Args& args) {
  std::int64_t wanted = 0;
  if (!parse_number(args[1], wanted)) {
    answer_error("ERR value is not an integer or out of range");
    return true;
  }
  if (wanted == std::int64_t{identity_->database}) {
    answer([](auto& out) { protocol::append_simple(out, "OK"); });
    return true;
  }
  // What follows travels on other connections than what came before.
  if (!replies_.empty()) {
    stall_ = Stall::kUntilEmpty;
    return false;
  }
  tiers::upstream::IdentityPtr known;
  if (wanted >= 0 && wanted <= std::numeric_limits<std::int32_t>::max()) {
    known = shared_.identities.known(identity_->credentials, static_cast<std::uint32_t>(wanted));
  }
  if (known && known->database_allowed.load(std::memory_order_relaxed)) {
    enter_database(open_place(), known);
  } else {
    ask_for_database(wanted);
  }
  return true;
}

void Session::ask_for_database(std::int64_t wanted) {
  const std::uint64_t number = open_place();
  stall_ = Stall::kAsked;
  ++outside_;
  tiers::io::EventLoop& loop = worker_.loop();
  shared_.control.check_select(
      identity_->credentials, std::to_string(wanted), [this, &loop, number, wanted](std::string error) {
        loop.post([this, number, wanted, error = std::move(error)]() mutable {
          --outside_;
          if (stall_ == Stall::kAsked) stall_ = Stall::kNone;
          tiers::upstream::IdentityPtr identity;
          if (error.empty()) {
            identity = shared_.identities.obtain(identity_->credentials, static_cast<std::uint32_t>(wanted));
            if (!identity) error = kTooManyIdentities;
          }
          if (identity) {
            identity->database_allowed.store(true, std::memory_order_relaxed);
            enter_database(number, identity);
            return;
          }
          std::string line;
          protocol::append_error(line, error);
          emit(number, line);
          finish(number);
        });
      });
}

void Session::enter_database(std::uint64_t number, const tiers::upstream::IdentityPtr& identity) {
  become(identity, version_);
  if (pinned_ && pinned_->select(number, identity->database)) return;
  emit(number, "+OK\r\n");
  finish(number);
}

}  // namespace nearcached::daemon
