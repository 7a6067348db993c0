// Which credentials the control plane's own links use.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::upstream {

// The configured credentials (or none at all) and, behind them, those that clients authenticated with: an application whose
// URL carries the password needs no second copy of it in the sidecar's configuration. Those that worked last are tried
// first. Bad at many users: only the kLearnedMax latest are kept.
//
// Pure; confined to the control thread.
class CredentialList {
 public:
  static constexpr std::size_t kLearnedMax = 8;

  explicit CredentialList(Credentials configured);

  // True: they were not known.
  bool learn(const Credentials& credentials);
  // In the order to try them, never empty. An empty element means that no AUTH is sent.
  [[nodiscard]] std::vector<Credentials> attempts() const;
  void worked(const Credentials& credentials);
  // True: this refusal is news.
  bool refused(const Credentials& credentials, std::string_view why);

 private:
  struct Entry {
    Credentials credentials;
    std::string refusal;  // empty: not refused since it last worked
  };

  std::vector<Entry>::iterator find(const Credentials& credentials);

  std::vector<Entry> entries_;  // the configured ones first, then the learned, newest first
  std::size_t preferred_ = 0;
};

// AUTH with one argument if there is no user, else with two.
[[nodiscard]] std::vector<std::string> auth_command(const Credentials& credentials);

// NOAUTH, WRONGPASS or NOPERM: other credentials might do.
[[nodiscard]] bool is_auth_error(std::string_view error_code);

}  // namespace nearcached::tiers::upstream
