#include "config/key_types.hpp"

#include <catch2/catch.hpp>

namespace nearcached::config {
namespace {

Problem set(std::string_view path, std::string text, Settings& settings) {
  const Key* key = find_key(path);
  REQUIRE(key != nullptr);
  return key->set(settings, Value::scalar(std::move(text), 9));
}

std::string problem_of(std::string_view path, std::string text) {
  Settings settings;
  return set(path, std::move(text), settings).text;
}

TEST_CASE("a problem has the line of the value") {
  Settings settings;
  CHECK(set("threads", "x", settings).line == 9);
  CHECK(set("l1.ttl", "5", settings).line == 9);
  CHECK(set("l1.soft_limit", "x", settings).line == 9);
  CHECK(set("log.level", "x", settings).line == 9);
  CHECK(set("upstream.username", std::string(1, '\0'), settings).line == 9);
}

TEST_CASE("text is bounded and without control characters") {
  CHECK(problem_of("upstream.username", std::string(kTextMax, 'u')) == "");
  CHECK(problem_of("upstream.username", std::string(kTextMax + 1, 'u')) != "");
  CHECK(problem_of("upstream.username", "a\r\nb") == "\"a??b\" has control characters");
  CHECK(problem_of("upstream.username", "J\xC3\xB6rg") == "");
  CHECK(problem_of("upstream.password", "any\nbyte") == "");
}

TEST_CASE("a long or binary value is shown shortened and harmless") {
  CHECK(describe(Value::scalar(std::string(1000, 'x'))) == "\"" + std::string(80, 'x') + "...\"");
  CHECK(describe(Value::scalar("a\x1b[31m\n")) == "\"a?[31m?\"");
  CHECK(describe(Value{}) == "nothing");
  CHECK(describe(Value::of(Value::Kind::kList)) == "a list");
}

}  // namespace
}  // namespace nearcached::config
