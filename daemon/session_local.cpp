// What a session answers by itself: who it is, who its client is, and what this process knows.
#include <algorithm>
#include <charconv>
#include <utility>

#include "daemon/info_text.hpp"
#include "daemon/log.hpp"
#include "daemon/memory_report.hpp"
#include "daemon/session.hpp"
#include "daemon/worker.hpp"
#include "protocol/ascii_case.hpp"

namespace nearcached::daemon {

using protocol::RespVersion;
using tiers::upstream::Credentials;

namespace {

// As Redis: no spaces, newlines or other bytes that would break the lines of CLIENT LIST.
bool printable(std::string_view name) {
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= '!' && c <= '~'; });
}

}  // namespace

bool Session::local(const Command& command, const Args& args, std::string_view raw) {
  const std::string_view name = command.name;
  if (name == "ping") {
    if (args.size() > 2) {
      answer_wrong_arity(command);
    } else if (args.size() == 2) {
      answer([&](auto& out) { protocol::append_bulk(out, args[1]); });
    } else {
      answer([](auto& out) { protocol::append_simple(out, "PONG"); });
    }
  } else if (name == "echo") {
    answer([&](auto& out) { protocol::append_bulk(out, args[1]); });
  } else if (name == "info") {
    return info(command, args, raw);
  } else if ((name == "hello" || name == "auth" || name == "reset") && !replies_.empty()) {
    // They change how, and over which connections, what follows is answered: not before all before it is.
    stall_ = Stall::kUntilEmpty;
    return false;
  } else if (name == "hello") {
    hello(args);
  } else if (name == "auth") {
    auth(args);
  } else if (name == "select") {
    return select(args);
  } else if (name == "reset") {
    reset();
  } else if (name == "quit") {
    answer([](auto& out) { protocol::append_simple(out, "OK"); });
    closing_ = true;
  } else if (name == "client|list") {
    return client_list(args);
  } else if (name == "client|kill") {
    return client_kill(args);
  } else if (name == "client|pause" || name == "client|unpause") {
    return client_pause(command, args);
  } else if (name == "monitor") {
    return monitor(args);
  } else if (name == "memory|doctor") {
    return memory_doctor(command, args, raw);
  } else if (name.starts_with("slowlog|")) {
    return slow_log(command, args);
  } else if (name.starts_with("latency|")) {
    return latency(command, args);
  } else {
    client(command, args);
  }
  return true;
}

bool Session::info(const Command& command, const Args& args, std::string_view raw) {
  const auto named = [&](std::string_view section) {
    return std::any_of(args.begin() + 1, args.end(),
                       [&](std::string_view arg) { return protocol::equal_ignoring_case(arg, section); });
  };
  if (args.size() == 2 && named("nearcached")) {
    answer_text(stats_info_section(shared_.stats()));
    return true;
  }
  const bool ours = args.size() == 1 || named("default") || named("all") || named("everything") || named("nearcached");
  const bool emulated = shared_.settings.cluster_emulation;
  const std::size_t primaries = worker_.router().topology()->primaries.size();
  // Only who asks for it by name waits for all nodes: clients that ask for all when they connect must not.
  const std::size_t nodes = named("keyspace") ? primaries : 1;
  if (!ours && !emulated && nodes == 1) return forward(command, args, raw);
  worker_.positions().clear();
  if (must_wait(args, tiers::upstream::kNoSlot)) return false;
  const std::uint64_t number = open_place();
  replies_.at(number).gather = std::make_unique<Gather>(version_, nodes, shared_.settings.limits.output_bytes,
                                                        [=, this](std::string& text, const auto& others) {
                                                          merge_keyspaces(text, others);
                                                          if (emulated) {
                                                            replace_info_line(text, "redis_mode:", "cluster");
                                                            replace_info_line(text, "cluster_enabled:", "1");
                                                          }
                                                          if (!ours) return;
                                                          text += text.empty() ? "" : "\r\n";
                                                          text += stats_info_section(shared_.stats());
                                                        });
  for (std::size_t i = 0; i < nodes; ++i) {
    const auto meta = request(command, make_token(number, i), tiers::upstream::kNoSlot);
    if (nodes == 1) {
      worker_.router().send(*lane_, meta, raw, now_us_);
    } else {
      worker_.router().send_to(*lane_, i, meta, raw, now_us_);
    }
  }
  return true;
}

// The upstream's words, and behind them ours.
bool Session::memory_doctor(const Command& command, const Args& args, std::string_view raw) {
  worker_.positions().clear();
  if (must_wait(args, tiers::upstream::kNoSlot)) return false;
  const std::uint64_t number = open_place();
  replies_.at(number).gather =
      std::make_unique<Gather>(version_, 1, shared_.settings.limits.output_bytes,
                               [this](std::string& text, const auto&) { text += "\n\n" + memory_report(shared_.stats()); });
  worker_.router().send(*lane_, request(command, make_token(number, 0), tiers::upstream::kNoSlot), raw, now_us_);
  return true;
}

template <class Sink>
void Session::write_hello(Sink& out) const {
  const bool resp3 = version_ == RespVersion::kResp3;
  const std::string& upstream = worker_.router().topology()->server_version;
  protocol::append_header(out, resp3 ? '%' : '*', resp3 ? 7 : 14);
  const auto pair = [&](std::string_view name, std::string_view value) {
    protocol::append_bulk(out, name);
    protocol::append_bulk(out, value);
  };
  pair("server", "redis");
  pair("version", upstream.empty() ? std::string_view("7.0.0") : std::string_view(upstream));
  protocol::append_bulk(out, "proto");
  protocol::append_integer(out, resp3 ? 3 : 2);
  protocol::append_bulk(out, "id");
  protocol::append_integer(out, static_cast<std::int64_t>(id_));
  pair("mode", shared_.settings.cluster_emulation ? "cluster" : "standalone");
  pair("role", "master");
  protocol::append_bulk(out, "modules");
  protocol::append_header(out, '*', 0);
}

void Session::hello(const Args& args) {
  RespVersion version = version_;
  if (args.size() > 1) {
    std::int64_t wanted = 0;
    const auto [end, error] = std::from_chars(args[1].data(), args[1].data() + args[1].size(), wanted);
    // As Redis reads numbers: no leading zeros, no "-0".
    if (error != std::errc() || end != args[1].data() + args[1].size() || std::to_string(wanted) != args[1]) {
      answer_error("ERR Protocol version is not an integer or out of range");
      return;
    }
    if (wanted != 2 && wanted != 3) {
      answer_error("NOPROTO unsupported protocol version");
      return;
    }
    version = static_cast<RespVersion>(wanted);
  }
  std::optional<Credentials> credentials;
  std::optional<std::string> name;
  for (std::size_t at = 2; at < args.size();) {
    const std::size_t left = args.size() - at - 1;
    if (protocol::equal_ignoring_case(args[at], "auth") && left >= 2) {
      credentials = Credentials{std::string(args[at + 1]), std::string(args[at + 2])};
      at += 3;
    } else if (protocol::equal_ignoring_case(args[at], "setname") && left >= 1) {
      name = std::string(args[at + 1]);
      at += 2;
    } else {
      answer_error("ERR Syntax error in HELLO option '" + std::string(args[at].substr(0, 64)) + "'");
      return;
    }
  }
  if (name && !printable(*name)) {
    answer_error("ERR Client names cannot contain spaces, newlines or special characters.");
    return;
  }
  if (!credentials && shared_.access.has_users() && user_ == nullptr) {
    answer_error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> "
        "option can be used to authenticate the client and select the RESP protocol version at the same time");
    return;
  }
  if (!credentials) {
    if (name) name_ = *name;
    become(identity_, version);
    answer([this](auto& out) { write_hello(out); });
    return;
  }
  authenticate(*credentials, [this, version, name](std::uint64_t number) {
    if (name) name_ = *name;
    become(identity_, version);
    std::string reply;
    write_hello(reply);
    emit(number, reply);
  });
}

void Session::auth(const Args& args) {
  if (args.size() > 3) {
    answer_error("ERR syntax error");
    return;
  }
  Credentials credentials;
  if (args.size() == 3) credentials.user = std::string(args[1]);
  credentials.password = std::string(args.back());
  authenticate(std::move(credentials), [this](std::uint64_t number) { emit(number, "+OK\r\n"); });
}

void Session::authenticate_here(const Credentials& credentials, const std::function<void(std::uint64_t)>& then) {
  const LocalUser* user =
      shared_.access.authenticate(credentials.user.empty() ? "default" : credentials.user, credentials.password);
  if (user == nullptr) {
    answer_error("WRONGPASS invalid username-password pair or user is disabled.");
    return;
  }
  const tiers::upstream::IdentityPtr identity = shared_.identities.obtain(user->upstream, identity_->database);
  if (!identity) {
    answer_error(kTooManyIdentities);
    return;
  }
  user_ = user;
  become(identity, version_);
  const std::uint64_t number = open_place();
  then(number);
  finish(number);
}

void Session::authenticate(Credentials credentials, std::function<void(std::uint64_t)> then) {
  if (shared_.access.has_users()) {
    authenticate_here(credentials, then);
    return;
  }
  const std::uint64_t number = open_place();
  stall_ = Stall::kAsked;
  ++outside_;
  tiers::io::EventLoop& loop = worker_.loop();
  shared_.control.check_auth(credentials, [this, &loop, number, credentials, then = std::move(then)](std::string error) {
    loop.post([this, number, credentials, then, error = std::move(error)]() mutable {
      --outside_;
      if (stall_ == Stall::kAsked) stall_ = Stall::kNone;
      tiers::upstream::IdentityPtr identity;
      if (error.empty()) {
        identity = shared_.identities.obtain(credentials, identity_->database);
        if (!identity) error = kTooManyIdentities;
      }
      if (identity) {
        shared_.control.learn_credentials(credentials);
        become(identity, version_);
        then(number);
      } else {
        std::string line;
        protocol::append_error(line, error);
        emit(number, line);
      }
      finish(number);
    });
  });
}

void Session::become(const tiers::upstream::IdentityPtr& identity, RespVersion version) {
  if (identity == identity_ && version == version_) return;
  if (pinned_ && (version != version_ || identity->credentials != identity_->credentials)) pinned_->forget_watch();
  worker_.router().detach(*lane_, now_us_);
  ++identity->clients;
  --identity_->clients;
  identity_ = identity;
  version_ = version;
  lane_ = &worker_.router().attach(identity_, version_);
}

// A user without a password may be somebody else to the upstream than the sidecar is.
void Session::become_initial() {
  tiers::upstream::IdentityPtr identity = shared_.identities.configured();
  user_ = shared_.access.initial();
  if (user_ != nullptr) {
    const auto own = shared_.identities.obtain(user_->upstream, identity->database);
    if (own) {
      identity = own;
    } else {
      user_ = nullptr;
    }
  }
  become(identity, RespVersion::kResp2);
}

void Session::reset() {
  leave_monitor();
  if (pinned_) pinned_->reset();
  replies_wanted_ = Replies::kOn;
  name_.clear();
  become_initial();
  answer([](auto& out) { protocol::append_simple(out, "RESET"); });
}

void Session::client_reply(const Args& args) {
  if (protocol::equal_ignoring_case(args[2], "on")) {
    replies_wanted_ = Replies::kOn;
    answer([](auto& out) { protocol::append_simple(out, "OK"); });
  } else if (protocol::equal_ignoring_case(args[2], "off")) {
    replies_wanted_ = Replies::kOff;
  } else if (protocol::equal_ignoring_case(args[2], "skip")) {
    if (replies_wanted_ != Replies::kOff) replies_wanted_ = Replies::kSkipNext;
  } else {
    answer_error("ERR syntax error");
  }
}

void Session::client(const Command& command, const Args& args) {
  const std::string_view name = command.name;
  const auto ok = [this] { answer([](auto& out) { protocol::append_simple(out, "OK"); }); };
  if (name == "client|id") {
    answer([this](auto& out) { protocol::append_integer(out, static_cast<std::int64_t>(id_)); });
  } else if (name == "client|getname") {
    answer([this](auto& out) {
      if (name_.empty()) {
        protocol::append_null(out, version_);
      } else {
        protocol::append_bulk(out, name_);
      }
    });
  } else if (name == "client|reply") {
    client_reply(args);
  } else if (name == "client|info") {
    answer_text(facts().line());
  } else if (name == "client|setname") {
    if (!printable(args[2])) {
      answer_error("ERR Client names cannot contain spaces, newlines or special characters.");
      return;
    }
    name_ = std::string(args[2]);
    ok();
  } else if (name == "client|setinfo") {
    std::string* field = protocol::equal_ignoring_case(args[2], "lib-name")  ? &library_name_
                         : protocol::equal_ignoring_case(args[2], "lib-ver") ? &library_version_
                                                                             : nullptr;
    if (field == nullptr) {
      answer_error("ERR Unrecognized option '" + std::string(args[2].substr(0, 64)) + "'");
    } else if (!printable(args[3])) {
      answer_error("ERR " + std::string(protocol::equal_ignoring_case(args[2], "lib-name") ? "lib-name" : "lib-ver") +
                   " cannot contain spaces, newlines or special characters.");
    } else {
      *field = std::string(args[3]);
      ok();
    }
  } else if (name == "client|getredir") {
    answer([](auto& out) { protocol::append_integer(out, -1); });
  } else if (name == "client|trackinginfo") {
    client_tracking_info();
  } else {
    client_switch(args);
  }
}

}  // namespace nearcached::daemon
