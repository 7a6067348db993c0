// What the admin server answers, apart from HTTP's wire format and from sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "daemon/metrics.hpp"
#include "daemon/stats_report.hpp"

namespace nearcached::daemon {

// What the admin server asks the process. All are called on the admin thread, must be safe to call there at any time
// between start() and stop(), and should return within milliseconds: a probe waits for them.
struct AdminHandlers {
  StatsSource stats;
  std::function<bool(std::string& why)> live;   // false: `why` says what stands still; the process should be restarted
  std::function<bool(std::string& why)> ready;  // false: `why` says what is missing; send no clients yet
  std::function<std::string()> config;          // the settings in force as YAML, without secrets
  std::function<void()> purge;                  // empties L1
  std::function<std::size_t()> flush;           // what was deferred leaves for the upstream; the writes that still wait
  MetricLabels labels;                          // constant labels of every metric
  // Whether it is the token that permits changes, in constant time; empty: there is none, and nothing can be changed.
  std::function<bool(std::string_view given)> is_token;
};

struct AdminPage {
  unsigned status = 200;
  std::string content_type;
  std::string body;
  std::string allow;         // of a 405: the methods that are allowed
  std::string authenticate;  // of a 401: how
};

// The pages: / /metrics /stats /config /livez /readyz, for GET and HEAD, and /purge and /flush for POST. Who may: with a
// token all but probes and metrics want it (RFC 6750); without one all may be read and nothing changed. Pure but for what
// the handlers do, so that every answer is tested without a socket. A handler that throws becomes a 500 with no detail in
// it: the caller may be anyone, the log has the reason. The caller owns threading; one call at a time.
class AdminPages {
 public:
  // Throws std::invalid_argument where the labels are wrong (metric_labels_error()).
  explicit AdminPages(AdminHandlers handlers);

  // `target` as it stands in the request line: a path with or without query, or an absolute http:// address.
  // `authorization`: the header of that name, empty if there is none.
  [[nodiscard]] AdminPage answer(std::string_view method, std::string_view target, std::string_view authorization) const;

  // A plain-text page for an error of the wire format.
  [[nodiscard]] static AdminPage error_page(unsigned status, std::string_view text);

 private:
  using Render = AdminPage (AdminPages::*)() const;
  struct Route {
    std::string_view path;
    Render render;
    bool open = false;     // without the token, too
    bool changes = false;  // POST, and never without a token
  };
  static const Route* find_route(std::string_view path);

  [[nodiscard]] AdminPage index() const;
  [[nodiscard]] AdminPage metrics() const;
  [[nodiscard]] AdminPage stats() const;
  [[nodiscard]] AdminPage config() const;
  [[nodiscard]] AdminPage purge() const;
  // 202 while something waits, 200 when nothing does: asked until then.
  [[nodiscard]] AdminPage flush() const;
  [[nodiscard]] bool knows(std::string_view authorization) const;
  [[nodiscard]] AdminPage live() const;
  [[nodiscard]] AdminPage ready() const;

  AdminHandlers handlers_;
  Metrics metrics_;
};

}  // namespace nearcached::daemon
