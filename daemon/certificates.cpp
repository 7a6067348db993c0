#include "daemon/certificates.hpp"

#include <string_view>

#include "config/config_error.hpp"
#include "daemon/log.hpp"

namespace nearcached::daemon {

using tiers::io::Tls;

namespace {

std::unique_ptr<Tls> loaded(Tls::Side side, const tiers::io::TlsOptions& options, const std::string& section) {
  auto tls = std::make_unique<Tls>(side, options);
  if (const std::string problem = tls->load(); !problem.empty()) throw config::ConfigError(section + ": " + problem);
  return tls;
}

void reload_one(Tls* tls, std::string_view section) {
  if (tls == nullptr) return;
  const std::optional<std::string> problem = tls->reload_if_changed();
  if (!problem) return;
  if (problem->empty()) {
    log::info("tls_reloaded", {{"section", section}});
  } else {
    log::error("tls_reload_failed", {{"section", section}, {"reason", *problem}, {"meaning", "the old ones stay in force"}});
  }
}

}  // namespace

Certificates::Certificates(const config::Settings& settings) {
  if (!settings.listen_tls.empty()) listeners_ = loaded(Tls::Side::kServer, settings.tls, "tls");
  if (settings.upstream.url.tls) upstream_ = loaded(Tls::Side::kClient, settings.upstream.tls, "upstream.tls");
}

void Certificates::tick(std::int64_t now_us) {
  if (now_us < next_look_us_) return;
  next_look_us_ = now_us + kLookEveryUs;
  reload();
}

void Certificates::reload() {
  reload_one(listeners_.get(), "tls");
  reload_one(upstream_.get(), "upstream.tls");
}

}  // namespace nearcached::daemon
