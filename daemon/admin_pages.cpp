#include "daemon/admin_pages.hpp"

#include <array>
#include <exception>
#include <utility>

#include "daemon/log.hpp"
#include "daemon/text_escape.hpp"
#include "protocol/ascii_case.hpp"

namespace nearcached::daemon {
namespace {

constexpr const char* kPlain = "text/plain; charset=utf-8";

AdminPage probe_page(const std::function<bool(std::string& why)>& probe) {
  std::string why;
  if (probe(why)) return {200, kPlain, "ok\n", {}, {}};
  return AdminPages::error_page(503, why.empty() ? "not ok" : why);
}

// The path of a request target (RFC 9112, section 3.2): without query, and without scheme and host of the absolute form.
std::string_view path_of(std::string_view target) {
  constexpr std::string_view kScheme = "http://";
  if (target.substr(0, kScheme.size()) == kScheme) {
    const std::size_t slash = target.find('/', kScheme.size());
    if (slash == std::string_view::npos) return "/";
    target.remove_prefix(slash);
  }
  return target.substr(0, target.find('?'));
}

std::string table_row(std::string_view name, std::string_view value) {
  return "<tr><th>" + html_escape(name) + "</th><td>" + html_escape(value) + "</td></tr>\n";
}

std::string index_html(const StatsSnapshot& s) {
  std::string mode = s.coherence_mode;
  if (!s.coherence_reason.empty()) mode += ": " + s.coherence_reason;
  std::string html =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>nearcached</title>\n"
      "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44em;margin:2em auto;padding:0 1em}"
      "th{text-align:left;font-weight:normal;padding-right:2em;vertical-align:top}</style></head><body>\n"
      "<h1>nearcached</h1>\n<table>\n";
  html += table_row("Version", s.version);
  html += table_row("Up", std::to_string(s.uptime_ms / 1000) + " s");
  html += table_row("Coherence", mode);
  html += table_row("Staleness bound", coherence_bound(s));
  html += table_row("L1", std::to_string(s.l1.items) + " items, " + std::to_string(s.l1.bytes) + " of " +
                              std::to_string(s.l1_max_bytes) + " bytes");
  html += table_row("Clients", std::to_string(s.clients));
  for (const NodeRow& node : s.nodes) {
    std::string text = node.state + ", coherence " + node.coherence;
    if (!node.coherence_reason.empty()) text += ": " + node.coherence_reason;
    html += table_row("Node " + node.endpoint, text);
  }
  html +=
      "</table>\n<ul>\n"
      "<li><a href=\"/metrics\">/metrics</a>: for Prometheus</li>\n"
      "<li><a href=\"/stats\">/stats</a>: the same numbers as JSON</li>\n"
      "<li><a href=\"/config\">/config</a>: the settings in force</li>\n"
      "<li><a href=\"/livez\">/livez</a>: are all workers turning</li>\n"
      "<li><a href=\"/readyz\">/readyz</a>: may clients be sent here</li>\n"
      "</ul>\n</body></html>\n";
  return html;
}

}  // namespace

AdminPages::AdminPages(AdminHandlers handlers)
    : handlers_(std::move(handlers)), metrics_(handlers_.stats, handlers_.labels) {}

bool AdminPages::knows(std::string_view authorization) const {
  constexpr std::string_view kScheme = "Bearer ";
  const bool bearer = protocol::equal_ignoring_case(authorization.substr(0, kScheme.size()), kScheme);
  return handlers_.is_token(bearer ? authorization.substr(kScheme.size()) : std::string_view());
}

AdminPage AdminPages::answer(std::string_view method, std::string_view target, std::string_view authorization) const {
  const Route* route = find_route(path_of(target));
  if (route == nullptr) return error_page(404, "no such page");
  const bool fits = route->changes ? method == "POST" : method == "GET" || method == "HEAD";
  if (!fits) {
    AdminPage page = error_page(405, route->changes ? "only POST" : "only GET and HEAD");
    page.allow = route->changes ? "POST" : "GET, HEAD";
    return page;
  }
  if (route->changes && !handlers_.is_token) {
    return error_page(403, "nothing can be changed here without a token (admin.token_file)");
  }
  if (!route->open && handlers_.is_token && !knows(authorization)) {
    AdminPage page = error_page(401, "the token of admin.token_file is wanted, as Authorization: Bearer TOKEN");
    page.authenticate = "Bearer";
    return page;
  }
  try {
    return (this->*route->render)();
  } catch (const std::exception& e) {
    log::write_limited(log::Level::kError, "admin_page_failed", route->path, {{"page", route->path}, {"error", e.what()}});
    return error_page(500, "the page could not be made");
  }
}

AdminPage AdminPages::error_page(unsigned status, std::string_view text) {
  return {status, kPlain, printable(text) + "\n", {}, {}};
}

const AdminPages::Route* AdminPages::find_route(std::string_view path) {
  static constexpr std::array<Route, 8> kRoutes = {{{"/", &AdminPages::index},
                                                    {"/metrics", &AdminPages::metrics, true},
                                                    {"/stats", &AdminPages::stats},
                                                    {"/config", &AdminPages::config},
                                                    {"/purge", &AdminPages::purge, false, true},
                                                    {"/flush", &AdminPages::flush, false, true},
                                                    {"/livez", &AdminPages::live, true},
                                                    {"/readyz", &AdminPages::ready, true}}};
  for (const Route& route : kRoutes) {
    if (route.path == path) return &route;
  }
  return nullptr;
}

AdminPage AdminPages::index() const { return {200, "text/html; charset=utf-8", index_html(handlers_.stats()), {}, {}}; }
AdminPage AdminPages::metrics() const { return {200, kMetricsContentType, metrics_.scrape(), {}, {}}; }
AdminPage AdminPages::stats() const { return {200, "application/json", stats_json(handlers_.stats()), {}, {}}; }
AdminPage AdminPages::config() const { return {200, "application/yaml", handlers_.config(), {}, {}}; }
AdminPage AdminPages::purge() const {
  handlers_.purge();
  log::write_limited(log::Level::kInfo, "l1_purged", {}, {{"reason", "asked by the admin server"}});
  return {200, kPlain, "ok\n", {}, {}};
}
AdminPage AdminPages::flush() const {
  const std::size_t left = handlers_.flush();
  if (left == 0) return {200, kPlain, "nothing waits\n", {}, {}};
  return {202, kPlain, std::to_string(left) + " writes leave for the upstream\n", {}, {}};
}
AdminPage AdminPages::live() const { return probe_page(handlers_.live); }
AdminPage AdminPages::ready() const { return probe_page(handlers_.ready); }

}  // namespace nearcached::daemon
