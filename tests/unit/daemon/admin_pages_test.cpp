#include "daemon/admin_pages.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>

#include "daemon/log.hpp"
#include "tests/unit/daemon/sample_snapshot.hpp"
#include "tests/unit/daemon/strict_json.hpp"
#include "tests/unit/daemon/strict_prometheus.hpp"

namespace nearcached::daemon {
namespace {

AdminHandlers sample_handlers() {
  return {.stats = testing::sample_snapshot,
          .live = [](std::string&) { return true; },
          .ready = [](std::string&) { return true; },
          .config = [] { return std::string("threads: 2\n"); },
          .purge = [] {},
          .flush = [] { return std::size_t{0}; },
          .labels = {{"service", "api"}},
          .is_token = {}};
}

AdminPage get(std::string_view target) { return AdminPages(sample_handlers()).answer("GET", target, ""); }

TEST_CASE("/metrics is a valid scrape with the constant labels") {
  const AdminPage page = get("/metrics");
  CHECK(page.status == 200);
  CHECK(page.content_type == "text/plain; version=0.0.4; charset=utf-8");
  const auto families = testing::StrictPrometheus::parse(page.body);
  CHECK(families.at("nearcached_l1_hits_total").samples.at("nearcached_l1_hits_total{service=\"api\"}") == 110);
}

TEST_CASE("/stats is valid JSON") {
  const AdminPage page = get("/stats");
  CHECK(page.status == 200);
  CHECK(page.content_type == "application/json");
  const auto values = testing::StrictJson::parse(page.body);
  REQUIRE(values);
  CHECK(values->at("l1.hits") == "110");
}

TEST_CASE("the index links every page, says the mode and why, and escapes text from outside") {
  AdminHandlers handlers = sample_handlers();
  handlers.stats = [] {
    StatsSnapshot s = testing::sample_snapshot();
    s.coherence_reason = "<script>alert(1)</script>";
    return s;
  };
  const AdminPage page = AdminPages(handlers).answer("GET", "/", "");
  CHECK(page.status == 200);
  CHECK(page.content_type == "text/html; charset=utf-8");
  for (const std::string link : {"/metrics", "/stats", "/config", "/livez", "/readyz"}) {
    CHECK(page.body.find("href=\"" + link + "\"") != std::string::npos);
  }
  CHECK(page.body.find("off: &lt;script&gt;") != std::string::npos);
  CHECK(page.body.find("<script>") == std::string::npos);
}

TEST_CASE("the index says what the bound is, and of each node its mode and why it is no better") {
  AdminHandlers handlers = sample_handlers();
  handlers.stats = [] {
    StatsSnapshot s = testing::sample_snapshot();
    s.coherence_mode = s.nodes[1].coherence = "ttl";
    s.nodes[1].coherence_reason = "<b>NOPERM";
    return s;
  };
  const std::string body = AdminPages(handlers).answer("GET", "/", "").body;
  CHECK(body.find("the TTL: nobody tells of changes") != std::string::npos);
  CHECK(body.find("<th>Node 10.0.0.1:7000</th><td>tracking, coherence tracking</td>") != std::string::npos);
  CHECK(body.find("greeting, coherence ttl: &lt;b&gt;NOPERM") != std::string::npos);
}

TEST_CASE("a probe answers 200 or 503 with the reason on one line, and each asks its own handler") {
  AdminHandlers handlers = sample_handlers();
  handlers.live = [](std::string& why) { return why = "worker 1 stands still\r\nfor 3 s", false; };
  handlers.ready = [](std::string& why) { return why = "ignored when ready", true; };
  AdminPages pages(handlers);
  CHECK(pages.answer("GET", "/livez", "").status == 503);
  CHECK(pages.answer("GET", "/livez", "").body == "worker 1 stands still??for 3 s\n");
  CHECK(pages.answer("GET", "/readyz", "").status == 200);
  CHECK(pages.answer("GET", "/readyz", "").body == "ok\n");
  handlers.live = [](std::string&) { return true; };
  handlers.ready = [](std::string&) { return false; };
  AdminPages turned(handlers);
  CHECK(turned.answer("GET", "/livez", "").status == 200);
  CHECK(turned.answer("GET", "/readyz", "").status == 503);
  CHECK(turned.answer("GET", "/readyz", "").body == "not ok\n");
}

TEST_CASE("only the exact paths exist") {
  for (const std::string_view target :
       {"", "*", "/x", "/metrics/", "/METRICS", "//metrics", "/../metrics", "metrics", "/metric", "/livez%20"}) {
    INFO(target);
    CHECK(get(target).status == 404);
  }
}

TEST_CASE("a query and the absolute form of a target are understood") {
  for (const std::string_view target :
       {"/livez?verbose=1", "/livez?", "http://host/livez", "http://host:1/livez?a=http://b/stats", "/livez?/stats"}) {
    INFO(target);
    CHECK(get(target).body == "ok\n");
  }
  CHECK(get("http://host").content_type == "text/html; charset=utf-8");
  CHECK(get("/?x").content_type == "text/html; charset=utf-8");
}

TEST_CASE("other methods than GET and HEAD are told which there are, on pages that exist") {
  const AdminPages pages(sample_handlers());
  for (const std::string_view method : {"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "QUIT", ""}) {
    INFO(method);
    CHECK(pages.answer(method, "/metrics", "").status == 405);
    CHECK(pages.answer(method, "/metrics", "").allow == "GET, HEAD");
    CHECK(pages.answer(method, "/nothing", "").status == 404);
    CHECK(pages.answer(method, "/nothing", "").allow.empty());
  }
  CHECK(pages.answer("HEAD", "/metrics", "").status == 200);
  CHECK_FALSE(pages.answer("HEAD", "/metrics", "").body.empty());
}

TEST_CASE("a handler that throws is a 500 without its words, and the next page is made") {
  const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  log::init(log::Level::kError, log::Format::kText, null);
  AdminHandlers handlers = sample_handlers();
  handlers.stats = []() -> StatsSnapshot { throw std::runtime_error("secret"); };
  const AdminPages pages(handlers);
  for (const std::string_view target : {"/", "/stats", "/metrics"}) {
    CHECK(pages.answer("GET", target, "").status == 500);
    CHECK(pages.answer("GET", target, "").body.find("secret") == std::string::npos);
  }
  CHECK(pages.answer("GET", "/livez", "").status == 200);
  log::shutdown();
  ::close(null);
}

TEST_CASE("wrong labels are refused when the pages are made") {
  AdminHandlers handlers = sample_handlers();
  handlers.labels = {{"le", "x"}};
  CHECK_THROWS_AS(AdminPages(handlers), std::invalid_argument);
}

TEST_CASE("without a token everything may be read and nothing changed") {
  AdminHandlers handlers = sample_handlers();
  int purged = 0;
  handlers.purge = [&] { ++purged; };
  const AdminPages pages(handlers);
  CHECK(pages.answer("GET", "/config", "").body == "threads: 2\n");
  for (const std::string authorization : {"", "Bearer ", "Bearer x", "Bearer"}) {
    CHECK(pages.answer("POST", "/purge", authorization).status == 403);
  }
  CHECK(purged == 0);
}

TEST_CASE("with a token probes and metrics are open, all else wants it, and it permits changes") {
  AdminHandlers handlers = sample_handlers();
  handlers.is_token = [](std::string_view given) { return given == "s3cret"; };
  int purged = 0;
  handlers.purge = [&] { ++purged; };
  const AdminPages pages(handlers);
  for (const std::string open : {"/livez", "/readyz", "/metrics"}) CHECK(pages.answer("GET", open, "").status == 200);
  for (const std::string wrong :
       {"", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret ", "Bearer S3CRET", "Basic s3cret", "s3cret"}) {
    CAPTURE(wrong);
    for (const std::string page : {"/", "/stats", "/config"}) CHECK(pages.answer("GET", page, wrong).status == 401);
    const AdminPage refused = pages.answer("POST", "/purge", wrong);
    CHECK(refused.status == 401);
    CHECK(refused.authenticate == "Bearer");
    CHECK(refused.body.find("s3cret") == std::string::npos);
  }
  CHECK(purged == 0);
  CHECK(pages.answer("GET", "/config", "Bearer s3cret").status == 200);
  CHECK(pages.answer("GET", "/stats", "bearer s3cret").status == 200);
  CHECK(pages.answer("GET", "/purge", "Bearer s3cret").status == 405);
  CHECK(pages.answer("GET", "/purge", "Bearer s3cret").allow == "POST");
  CHECK(purged == 0);
  CHECK(pages.answer("POST", "/purge", "Bearer s3cret").status == 200);
  CHECK(purged == 1);
}

TEST_CASE("a flush is asked for until nothing waits") {
  AdminHandlers handlers = sample_handlers();
  handlers.is_token = [](std::string_view given) { return given == "s3cret"; };
  std::size_t left = 3;
  handlers.flush = [&] { return left; };
  const AdminPages pages(handlers);
  CHECK(pages.answer("POST", "/flush", "").status == 401);
  CHECK(pages.answer("GET", "/flush", "Bearer s3cret").status == 405);
  CHECK(pages.answer("POST", "/flush", "Bearer s3cret").status == 202);
  CHECK(pages.answer("POST", "/flush", "Bearer s3cret").body == "3 writes leave for the upstream\n");
  left = 0;
  CHECK(pages.answer("POST", "/flush", "Bearer s3cret").status == 200);
}

}  // namespace
}  // namespace nearcached::daemon
