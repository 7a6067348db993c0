#include "config/validate.hpp"

#include <algorithm>
#include <string>
#include <string_view>

#include "config/address.hpp"
#include "config/units.hpp"
#include "config/upstream_url.hpp"
#include "tiers/coherence/fence_table.hpp"

namespace nearcached::config {
namespace {

// Names the place of `key`, or of `other` where `key` is at its default and so can't be what was just changed.
[[noreturn]] void fail(const Configuration& configuration, std::string_view key, std::string_view other,
                       const std::string& message) {
  auto origin = configuration.origins.find(key);
  if (origin == configuration.origins.end()) origin = configuration.origins.find(other);
  const std::string place = origin == configuration.origins.end() ? "" : origin->second.text() + ": ";
  throw ConfigError(place + message);
}

void check_upstream(const Configuration& configuration) {
  const Upstream& upstream = configuration.settings.upstream;
  if (upstream.url.endpoints.empty()) {
    throw ConfigError(
        "upstream.url: is not given; allowed: upstream.url in the file, NEARCACHED_UPSTREAM__URL or --upstream, as " +
        find_key("upstream.url")->allowed);
  }
  if (!upstream.password.empty() && !upstream.password_file.empty()) {
    fail(configuration, "upstream.password", "upstream.password_file",
         "upstream.password: is given together with upstream.password_file; allowed: one of them");
  }
  if (!upstream.sentinel.password.empty() && !upstream.sentinel.password_file.empty()) {
    fail(configuration, "upstream.sentinel.password", "upstream.sentinel.password_file",
         "upstream.sentinel.password: is given together with upstream.sentinel.password_file; allowed: one of them");
  }
  try {
    static_cast<void>(resolved_credentials(upstream));
  } catch (const ConfigError& error) {
    fail(configuration, "upstream.password_file", "", error.what());
  }
  try {
    static_cast<void>(resolved_sentinel_credentials(upstream));
  } catch (const ConfigError& error) {
    fail(configuration, "upstream.sentinel.password_file", "", error.what());
  }
  try {
    static_cast<void>(resolved_admin_token(configuration.settings.admin));
  } catch (const ConfigError& error) {
    fail(configuration, "admin.token_file", "", error.what());
  }
}

void check_limits(const Configuration& configuration) {
  const Limits& limits = configuration.settings.limits;
  if (limits.output_pause_bytes > limits.output_bytes) {
    fail(configuration, "limits.output_pause_bytes", "limits.output_bytes",
         "limits.output_pause_bytes: " + format_bytes(limits.output_pause_bytes) + " is more than limits.output_bytes, " +
             format_bytes(limits.output_bytes) + "; allowed: at most that");
  }
  // The fences count writes under way in so many bits (coherence/fence_table).
  if (limits.clients * limits.pipeline > tiers::coherence::FenceTable::kWritesMax) {
    fail(configuration, "limits.pipeline", "limits.clients",
         "limits.pipeline: " + std::to_string(limits.pipeline) + " times limits.clients, " + std::to_string(limits.clients) +
             ", is more than " + std::to_string(tiers::coherence::FenceTable::kWritesMax) + "; allowed: at most that");
  }
}

void check_l1(const Configuration& configuration) {
  const L1& l1 = configuration.settings.l1;
  if (!l1.enabled || l1.store.max_bytes == 0) return;
  if (l1.store.max_item_bytes > l1.store.max_bytes) {
    fail(configuration, "l1.max_item_bytes", "l1.max_bytes",
         "l1.max_item_bytes: " + format_bytes(l1.store.max_item_bytes) + " is more than l1.max_bytes, " +
             format_bytes(l1.store.max_bytes) + "; allowed: at most that");
  }
  const std::string problem = l1.store.validate();
  if (!problem.empty()) fail(configuration, "l1.max_bytes", "l1.max_item_bytes", "l1: " + problem);
}

void check_coherence(const Configuration& configuration) {
  const Coherence& coherence = configuration.settings.coherence;
  if (coherence.mode != CoherenceMode::kBus || coherence.bus.type != BusType::kNone) return;
  fail(configuration, "coherence.bus.type", "coherence.mode",
       "coherence.bus.type: is none, and coherence.mode: bus has nothing to go over; allowed: coherence.bus.type: redis, or "
       "another mode");
}

// The first key that gives a durability for which `is` holds, as an error names it; empty: none does.
template <typename Is>
std::string durability_that(const Settings& settings, Is is) {
  if (is(settings.write_behind.durability)) return "write_behind.durability";
  const auto found = std::find_if(settings.namespaces.begin(), settings.namespaces.end(),
                                  [&](const Namespace& own) { return own.durability && is(*own.durability); });
  if (found == settings.namespaces.end()) return "";
  return "namespaces[" + std::to_string(found - settings.namespaces.begin()) + "].durability";
}

void check_durability(const Configuration& configuration) {
  const Settings& settings = configuration.settings;
  const auto refuse = [&](const std::string& path, const std::string& problem) {
    fail(configuration, std::string_view(path).substr(0, path.find('[')), "", path + problem);
  };
  if (!settings.write_behind.enabled) {
    const std::string path =
        durability_that(settings, [](tiers::Durability level) { return level != tiers::Durability::kImmediate; });
    if (path.empty()) return;
    refuse(path, ": is not immediate, but write_behind.enabled is false; allowed: write_behind.enabled: true, or immediate");
  }
  if (!settings.write_behind.log_dir.empty()) return;
  const std::string path =
      durability_that(settings, [](tiers::Durability level) { return level == tiers::Durability::kDeferred; });
  if (path.empty()) return;
  refuse(path, ": is deferred, but write_behind.log_dir is not given; allowed: a directory there, or eventual");
}

void check_write_behind(const Configuration& configuration) {
  check_durability(configuration);
  const WriteBehind& behind = configuration.settings.write_behind;
  if (behind.log_max_bytes < 2 * behind.segment_bytes) {
    fail(configuration, "write_behind.log_max_bytes", "write_behind.segment_bytes",
         "write_behind.log_max_bytes: " + format_bytes(behind.log_max_bytes) +
             " is less than two of write_behind.segment_bytes, " + format_bytes(behind.segment_bytes) +
             "; allowed: at least that");
  }
  if (behind.in_flight < behind.batch_records) {
    fail(configuration, "write_behind.in_flight", "write_behind.batch_records",
         "write_behind.in_flight: " + std::to_string(behind.in_flight) + " is less than write_behind.batch_records, " +
             std::to_string(behind.batch_records) + "; allowed: at least that");
  }
}

void check_addresses(const Configuration& configuration) {
  const Settings& settings = configuration.settings;
  if (!settings.admin.enabled) return;
  const auto in = [&](const std::vector<ListenAddress>& list) {
    return std::find(list.begin(), list.end(), settings.admin.listen) != list.end();
  };
  if (!in(settings.listen) && !in(settings.listen_tls)) return;
  fail(configuration, "admin.listen", "listen",
       "admin.listen: \"" + address_text(settings.admin.listen) +
           "\" is in listen too; allowed: an address of its own, or off");
}

void check_tls(const Configuration& configuration) {
  const Settings& settings = configuration.settings;
  const auto check_pair = [&](const std::string& section, const tiers::io::TlsOptions& tls) {
    if (tls.cert.empty() == tls.key.empty()) return;
    const std::string given = section + (tls.key.empty() ? ".cert" : ".key");
    const std::string lacks = section + (tls.key.empty() ? ".key" : ".cert");
    fail(configuration, given, "", given + ": is given without " + lacks + "; allowed: both, or neither");
  };
  check_pair("tls", settings.tls);
  check_pair("upstream.tls", settings.upstream.tls);
  const tiers::io::TlsOptions& up = settings.upstream.tls;
  const bool up_given = !up.cert.empty() || !up.ca.empty() || !up.server_name.empty();
  if (up_given && !settings.upstream.url.tls) {
    fail(configuration, "upstream.url", "",
         "upstream.tls: is given, but upstream.url is not one of TLS; allowed: rediss in place of redis there, or no "
         "upstream.tls");
  }
  if (!settings.listen_tls.empty() && settings.tls.cert.empty()) {
    fail(configuration, "listen", "", "listen: rediss:// needs tls.cert and tls.key, which are not given");
  }
  if (settings.tls.client_auth != tiers::io::TlsClientAuth::kNone && settings.tls.ca.empty()) {
    fail(configuration, "tls.client_auth", "", "tls.client_auth: needs tls.ca, the authorities of clients' certificates");
  }
}

}  // namespace

void validate(const Configuration& configuration) {
  check_upstream(configuration);
  check_limits(configuration);
  check_l1(configuration);
  check_coherence(configuration);
  check_write_behind(configuration);
  check_addresses(configuration);
  check_tls(configuration);
}

}  // namespace nearcached::config
