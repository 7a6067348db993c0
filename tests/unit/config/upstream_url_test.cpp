#include "config/upstream_url.hpp"

#include <catch2/catch.hpp>

#include "config/config_error.hpp"
#include "tests/unit/config/temp_dir.hpp"

namespace nearcached::config {
namespace {

using Catch::Contains;
using tiers::upstream::Credentials;
using tiers::upstream::Endpoint;

UpstreamUrl parsed(std::string_view text) {
  UpstreamUrl url;
  REQUIRE(parse_upstream_url(text, url) == "");
  CHECK(url.text == text);
  return url;
}

std::string problem_of(std::string_view text) {
  UpstreamUrl url;
  const std::string problem = parse_upstream_url(text, url);
  CHECK(url.endpoints.empty());
  return problem;
}

TEST_CASE("a server's URL has defaults for port, user, password and database") {
  const UpstreamUrl url = parsed("redis://cache.example");
  CHECK(url.kind == UpstreamKind::kServer);
  CHECK(url.endpoints == std::vector<Endpoint>{{"cache.example", 6379}});
  CHECK(url.credentials.empty());
  CHECK(url.database == 0);
  CHECK(parsed("redis://h/").database == 0);
}

TEST_CASE("a server's URL with everything") {
  const UpstreamUrl url = parsed("redis://app:s3cret@[::1]:7000/3");
  CHECK(url.endpoints == std::vector<Endpoint>{{"::1", 7000}});
  CHECK(url.credentials == Credentials{"app", "s3cret"});
  CHECK(url.database == 3);
}

TEST_CASE("a cluster's URL names seeds, each with its own port or the default") {
  const UpstreamUrl url = parsed("redis+cluster://u:p@a:7000,b,[::1],10.0.0.1:7003");
  CHECK(url.kind == UpstreamKind::kCluster);
  CHECK(url.endpoints == std::vector<Endpoint>{{"a", 7000}, {"b", 6379}, {"::1", 6379}, {"10.0.0.1", 7003}});
  CHECK(url.credentials == Credentials{"u", "p"});
}

TEST_CASE("a unix socket is a server") {
  CHECK(parsed("unix:/run/redis.sock").endpoints == std::vector<Endpoint>{{"/run/redis.sock", 0}});
  CHECK(parsed("unix:/run/redis.sock").kind == UpstreamKind::kServer);
}

TEST_CASE("user and password are percent-decoded, and only they") {
  CHECK(parsed("redis://us%3Aer:p%40ss%2fw%25@h").credentials == Credentials{"us:er", "p@ss/w%"});
  CHECK(parsed("redis://:p:w@h").credentials == Credentials{"", "p:w"});
  CHECK(parsed("redis://user@h").credentials == Credentials{"user", ""});
  CHECK(parsed("redis://u:a@b@h").credentials == Credentials{"u", "a@b"});
  CHECK(parsed("redis+cluster://u:a,b@h,i").endpoints.size() == 2);
  for (const char* text : {"redis://u:%@h", "redis://u:%4@h", "redis://u:%4g@h", "redis://%zz@h"}) {
    CHECK_THAT(problem_of(text), Contains("hexadecimal"));
  }
  CHECK_THAT(problem_of("redis://h%41"), Contains("is not HOST"));
}

TEST_CASE("sentinels are followed by the name of their master, and perhaps a database") {
  const UpstreamUrl url = parsed("redis+sentinel://u:p@a,b:1,[::1]/my%2Dmaster/3");
  CHECK(url.kind == UpstreamKind::kSentinel);
  CHECK(url.endpoints == std::vector<Endpoint>{{"a", 26379}, {"b", 1}, {"::1", 26379}});
  CHECK(url.master == "my-master");
  CHECK(url.database == 3);
  CHECK(url.redacted() == "redis+sentinel://u:<redacted>@a:26379,b:1,[::1]:26379/my-master/3");
  CHECK(parsed("rediss+sentinel://h/m").tls);
  CHECK(parsed("redis+sentinel://h/m").database == 0);
  for (const char* text : {"redis+sentinel://h", "redis+sentinel://h/", "redis+sentinel://h/a%20b", "redis+sentinel://h/%",
                           "redis+sentinel://h//1"}) {
    CHECK_THAT(problem_of(text), Contains("the name of the master has to follow"));
  }
  CHECK_THAT(problem_of("redis+sentinel://h/m/x"), Contains("not the number of a database"));
}

TEST_CASE("rediss is redis with TLS") {
  CHECK_FALSE(parsed("redis://h").tls);
  const UpstreamUrl server = parsed("rediss://u:p@h:7/3");
  CHECK(server.tls);
  CHECK(server.kind == UpstreamKind::kServer);
  CHECK(server.endpoints.front().port == 7);
  CHECK(server.database == 3);
  CHECK(server.redacted() == "rediss://u:<redacted>@h:7/3");
  const UpstreamUrl cluster = parsed("rediss+cluster://a,b");
  CHECK(cluster.tls);
  CHECK(cluster.kind == UpstreamKind::kCluster);
  CHECK(cluster.redacted() == "rediss+cluster://a:6379,b:6379");
  for (const char* text : {"redisss://h", "rediss:/h", "rediss+unix:/p", "redisscluster://h", "rediss"}) {
    CHECK_THAT(problem_of(text), Contains("does not begin with redis://"));
  }
}

TEST_CASE("malformed URLs say what is wrong with them") {
  CHECK_THAT(problem_of(""), Contains("does not begin with redis://"));
  CHECK_THAT(problem_of("http://h"), Contains("does not begin with redis://"));
  CHECK_THAT(problem_of("h:6379"), Contains("does not begin with redis://"));
  CHECK_THAT(problem_of("redis://"), Contains("is not HOST"));
  CHECK_THAT(problem_of("redis://h:0"), Contains("\"h:0\" is not HOST"));
  CHECK_THAT(problem_of("redis://h:65536"), Contains("is not HOST"));
  CHECK_THAT(problem_of("redis://::1:6379"), Contains("is not HOST"));
  CHECK_THAT(problem_of("redis://h:6379/x"), Contains("not the number of a database"));
  CHECK_THAT(problem_of("redis://h/1/2"), Contains("not the number of a database"));
  CHECK_THAT(problem_of("redis://h/4294967296"), Contains("not the number of a database"));
  CHECK_THAT(problem_of("redis://h?db=1"), Contains("'?'"));
  CHECK_THAT(problem_of("redis://a,b"), Contains("several hosts are redis+cluster://"));
  CHECK_THAT(problem_of("redis+cluster://a,,b"), Contains("is not HOST"));
  CHECK_THAT(problem_of("redis+cluster://a,"), Contains("is not HOST"));
  CHECK_THAT(problem_of("redis+cluster://a,a:6379"), Contains("a:6379 is named twice"));
  CHECK_THAT(problem_of("redis+cluster://a/0"), Contains("a cluster has no databases"));
  CHECK_THAT(problem_of("redis://u:a/b@h"), Contains("%2F"));
  CHECK_THAT(problem_of("unix:"), Contains("path"));
}

TEST_CASE("the number of seeds is bounded") {
  std::string text = "redis+cluster://h0";
  for (std::size_t i = 1; i < kSeedsMax; ++i) text += ",h" + std::to_string(i);
  CHECK(parsed(text).endpoints.size() == kSeedsMax);
  CHECK_THAT(problem_of(text + ",one-more"), Contains("more than 64"));
}

TEST_CASE("a failed parse leaves the URL as it was") {
  UpstreamUrl url;
  REQUIRE(parse_upstream_url("redis://u:p@h:1/2", url) == "");
  REQUIRE(parse_upstream_url("redis+cluster://x,y:0", url) != "");
  CHECK(url.redacted() == "redis://u:<redacted>@h:1/2");
}

TEST_CASE("a redacted URL shows all but the password and reads back") {
  CHECK(parsed("redis://app:s3cret@h/2").redacted() == "redis://app:<redacted>@h:6379/2");
  CHECK(parsed("redis://:s3cret@h").redacted() == "redis://:<redacted>@h:6379");
  CHECK(parsed("redis://us%40er:s@h").redacted() == "redis://us%40er:<redacted>@h:6379");
  CHECK(parsed("redis://h").redacted() == "redis://h:6379");
  CHECK(parsed("redis+cluster://u:p@a,[::1]:7").redacted() == "redis+cluster://u:<redacted>@a:6379,[::1]:7");
  CHECK(parsed("unix:/a.sock").redacted() == "unix:/a.sock");
  CHECK(UpstreamUrl{}.redacted() == "");
  CHECK(parsed(parsed("redis://us%40er:s@h/2").redacted()).credentials == Credentials{"us@er", "<redacted>"});
}

TEST_CASE("a URL that can't be parsed is masked up to its last @") {
  CHECK(redact_unparsed_url("redis://u:s3cret@h:0") == "redis://<redacted>@h:0");
  CHECK(redact_unparsed_url("redis://u:s3@cret@h:0") == "redis://<redacted>@h:0");
  CHECK(redact_unparsed_url("u:s3cret@h") == "<redacted>@h");
  CHECK(redact_unparsed_url("redis://h:0") == "redis://h:0");
}

TEST_CASE("keys beside the URL win over its credentials, one by one") {
  Upstream upstream;
  upstream.url = parsed("redis://urluser:urlpass@h");
  CHECK(resolved_credentials(upstream) == Credentials{"urluser", "urlpass"});
  upstream.password = "newpass";
  CHECK(resolved_credentials(upstream) == Credentials{"urluser", "newpass"});
  upstream.username = "newuser";
  CHECK(resolved_credentials(upstream) == Credentials{"newuser", "newpass"});
  CHECK(resolved_credentials(Upstream{}).empty());
}

TEST_CASE("a password file gives its first line, as it is when it is asked") {
  const TempDir directory;
  Upstream upstream;
  upstream.url = parsed("redis://u:urlpass@h");
  upstream.password_file = directory.write("pw", "first line \nsecond\n");
  CHECK(resolved_credentials(upstream).password == "first line ");
  directory.write("pw", "rotated\r\n");
  CHECK(resolved_credentials(upstream).password == "rotated");
  directory.write("pw", "no newline");
  CHECK(resolved_credentials(upstream).password == "no newline");
  directory.write("pw", std::string(4096, 'x'));
  CHECK(resolved_credentials(upstream).password.size() == 4096);
}

TEST_CASE("a password file that gives no password is an error that names it") {
  const TempDir directory;
  Upstream upstream;
  const auto message = [&] { return message_of<ConfigError>([&] { static_cast<void>(resolved_credentials(upstream)); }); };
  upstream.password_file = directory.path("missing");
  CHECK_THAT(message(), Contains("upstream.password_file: \"" + directory.path("missing") + "\" can't be read"));
  upstream.password_file = directory.path("");
  CHECK_THAT(message(), Contains("can't be read"));
  upstream.password_file = directory.write("empty", "");
  CHECK_THAT(message(), Contains("empty first line"));
  upstream.password_file = directory.write("blank", "\r\nsecret\n");
  CHECK_THAT(message(), Contains("empty first line") && !Contains("secret"));
  upstream.password_file = directory.write("long", std::string(5000, 'x'));
  CHECK_THAT(message(), Contains("more than 4KB"));
}

}  // namespace
}  // namespace nearcached::config
