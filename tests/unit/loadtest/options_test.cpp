#include "loadtest/options.hpp"

#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>
#include <vector>

using namespace nearcached::loadtest;

namespace {

Options parsed(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"--target", "h:1"});
  return parse(arguments);
}

double share(const Options& options, Operation operation) { return options.mix[static_cast<std::size_t>(operation)]; }

}  // namespace

TEST_CASE("only a target is needed: gets, for ten seconds") {
  const Options options = parsed({});
  CHECK(options.targets == std::vector<std::string>{"h:1"});
  CHECK(options.seconds == 10);
  CHECK(share(options, Operation::kGet) == 1);
  CHECK(share(options, Operation::kSet) == 0);
  CHECK(options.rate == 0);
}

TEST_CASE("targets add up, the last of other options counts") {
  const Options options = parsed({"--target", "unix:/s", "--clients", "5", "--clients", "6"});
  CHECK(options.targets == std::vector<std::string>{"h:1", "unix:/s"});
  CHECK(options.clients == 6);
}

TEST_CASE("a mix replaces the default") {
  const Options options = parsed({"--mix", "set=10,mget=0.5"});
  CHECK(share(options, Operation::kGet) == 0);
  CHECK(share(options, Operation::kSet) == 10);
  CHECK(share(options, Operation::kMget) == 0.5);
}

TEST_CASE("a number of requests has no time limit unless one is given") {
  CHECK(parsed({"--requests", "5"}).seconds == 0);
  CHECK(parsed({"--requests", "5", "--seconds", "2"}).seconds == 2);
}

TEST_CASE("populating through another address is populating") {
  const Options options = parsed({"--cluster-populate", "h:2"});
  CHECK(options.populate);
  CHECK(options.populate_target == "h:2");
}

TEST_CASE("what can't be meant is refused, naming the option") {
  const std::vector<std::vector<std::string>> kWrong{
      {"--clients", "0"},  {"--clients", "20001"}, {"--clients", "x"}, {"--clients", "5x"}, {"--clients"},
      {"--pipeline", "0"}, {"--keys", "-1"},       {"--theta", "0"},   {"--theta", "nan"},  {"--mix", ""},
      {"--mix", "get"},    {"--mix", "get=0"},     {"--mix", "del=1"}, {"--mix", "hset=1"}, {"--distribution", "gauss"},
      {"--requests", "0"}, {"--open-loop", "-5"},  {"--seconds", "0"}, {"--pid", "0"},      {"--nonsense", "1"},
      {"--threads", "65"}};
  for (const auto& arguments : kWrong) {
    INFO(arguments.front());
    CHECK_THROWS_WITH(parsed(arguments), Catch::Contains(arguments.front()));
  }
  CHECK_THROWS_AS(parse({}), std::invalid_argument);
  CHECK_THROWS_WITH(parsed({"--clients", "2", "--threads", "3"}), Catch::Contains("--threads"));
}

TEST_CASE("a trace needs the number of requests and one thread, but no target") {
  const auto parse_all = [](std::vector<std::string> arguments) { return parse(arguments); };
  CHECK(parse_all({"--trace", "f", "--requests", "5"}).trace_path == "f");
  CHECK_THROWS_WITH(parse_all({"--trace", "f"}), Catch::Contains("--trace"));
  CHECK_THROWS_WITH(parse_all({"--trace", "f", "--requests", "5", "--threads", "2"}), Catch::Contains("--trace"));
}
