#include "tiers/upstream/control_plane.hpp"

#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tiers/upstream/control_errands.hpp"
#include "tiers/upstream/control_loop.hpp"
#include "tiers/upstream/topology_watch.hpp"

namespace nearcached::tiers::upstream {
namespace {

std::string verdict(const LinkResult& result, std::string_view question) {
  if (result.status != LinkStatus::kOk) return "ERR nearcached: the upstream could not be asked (" + result.why + ")";
  if (result.reply.is_error()) return result.reply.text;
  const bool accepted = result.reply.type == ControlReply::Type::kStatus && result.reply.text == "OK";
  if (accepted) return {};
  return "ERR nearcached: the upstream gave no answer to " + std::string(question) + " that can be understood";
}

Endpoint only_server(const ControlPlaneOptions& options) {
  return options.sentinel_master.empty() ? options.seeds.front() : Endpoint();
}

}  // namespace

// Members below `loop` are of its thread, until stop() has ended that.
struct ControlPlane::Impl {
  Impl(ControlPlaneOptions the_options, TopologyHandler on_topology)
      : options(std::move(the_options)),
        credentials(options.credentials),
        ring(options.cluster ? options.seeds : std::vector<Endpoint>{only_server(options)}),
        watch(loop, options, std::move(on_topology), credentials, ring),
        errands(std::in_place, loop, options, ring) {}

  const ControlPlaneOptions options;
  std::atomic<bool> refresh_posted{false};
  ControlLoop loop;
  CredentialList credentials;
  NodeRing ring;
  TopologyWatch watch;
  using Selection = std::tuple<std::string, std::string, std::string>;  // user, password, database
  std::map<Selection, std::vector<AuthHandler>> selections;             // that are being asked about
  std::optional<ControlErrands> errands;
};

ControlPlane::ControlPlane(ControlPlaneOptions options, TopologyHandler on_topology)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(on_topology))) {}

ControlPlane::~ControlPlane() { stop(); }

void ControlPlane::start() {
  impl_->loop.post([impl = impl_.get()] { impl->watch.start(); });
  impl_->loop.start();
}

void ControlPlane::stop() {
  impl_->loop.stop();
  impl_->selections.clear();
  impl_->errands.reset();  // with the handlers that were not called, and what they hold
}

void ControlPlane::request_refresh() {
  // Hundreds of connections break at once when a node dies.
  if (impl_->refresh_posted.exchange(true)) return;
  impl_->loop.post([impl = impl_.get()] {
    impl->refresh_posted.store(false);
    impl->watch.request_refresh();
  });
}

void ControlPlane::check_auth(Credentials credentials, AuthHandler handler) {
  impl_->loop.post([impl = impl_.get(), credentials = std::move(credentials), handler = std::move(handler)]() mutable {
    impl->errands->run({{std::move(credentials)}, {}, [handler = std::move(handler)](const LinkResult& result) {
                          handler(verdict(result, "AUTH"));
                        }});
  });
}

void ControlPlane::check_select(Credentials credentials, std::string database, AuthHandler handler) {
  impl_->loop.post([impl = impl_.get(), credentials = std::move(credentials), database = std::move(database),
                    handler = std::move(handler)]() mutable {
    const Impl::Selection selection{credentials.user, credentials.password, database};
    const auto [asked, first] = impl->selections.try_emplace(selection);
    asked->second.push_back(std::move(handler));
    if (!first) return;
    impl->errands->run(
        {{std::move(credentials)}, {"SELECT", std::move(database)}, [impl, selection](const LinkResult& result) {
           const auto waiting = std::move(impl->selections.extract(selection).mapped());
           const std::string error = verdict(result, "SELECT");
           for (const AuthHandler& waiter : waiting) waiter(error);
         }});
  });
}

void ControlPlane::learn_credentials(const Credentials& credentials) {
  impl_->loop.post([impl = impl_.get(), credentials] {
    if (impl->credentials.learn(credentials)) impl->watch.request_refresh();
  });
}

void ControlPlane::command_info(std::string name, CommandInfoHandler handler) {
  impl_->loop.post([impl = impl_.get(), name = std::move(name), handler = std::move(handler)]() mutable {
    impl->errands->run({impl->credentials.attempts(),
                        {"COMMAND", "INFO", std::move(name)},
                        [handler = std::move(handler)](const LinkResult& result) {
                          auto info = parse_command_info(result.reply);
                          handler(info.has_value(), info.value_or(CommandInfo{}));
                        }});
  });
}

std::int64_t ControlPlane::topology_age_ms() const {
  using std::chrono::milliseconds;
  const std::int64_t last_good = impl_->watch.last_good_ms();
  if (last_good < 0) return -1;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<milliseconds>(now).count() - last_good;
}

}  // namespace nearcached::tiers::upstream
