// The certificates of the listeners and of the way to the upstream, kept as fresh as their files.
#pragma once

#include <cstdint>
#include <memory>

#include "config/settings.hpp"
#include "tiers/io/tls.hpp"

namespace nearcached::daemon {

// Read at the start, where anything wrong is an error of the configuration, and read again when a file has changed: a
// rotation needs no restart. Files that can't be used then leave the old certificates in force; the log says so once per
// change. Connections that are there keep the certificates that they began with.
//
// Threading: reload() from one thread; what listeners() and upstream() point to is for all.
class Certificates {
 public:
  static constexpr std::int64_t kLookEveryUs = 1'000'000;

  // Throws config::ConfigError.
  explicit Certificates(const config::Settings& settings);

  // nullptr: nobody uses TLS there.
  [[nodiscard]] const tiers::io::Tls* listeners() const { return listeners_.get(); }
  [[nodiscard]] const tiers::io::Tls* upstream() const { return upstream_.get(); }
  // Looks at the files, if the last look is kLookEveryUs ago or more.
  void tick(std::int64_t now_us);
  void reload();

 private:
  std::unique_ptr<tiers::io::Tls> listeners_;
  std::unique_ptr<tiers::io::Tls> upstream_;
  std::int64_t next_look_us_ = 0;
};

}  // namespace nearcached::daemon
