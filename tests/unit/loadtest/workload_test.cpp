#include "loadtest/workload.hpp"

#include <catch2/catch.hpp>
#include <map>
#include <string>

using namespace nearcached::loadtest;

namespace {

std::string written(Operation operation, std::uint64_t key, const RequestShape& shape = {}) {
  std::string out;
  RequestWriter(shape).append(out, operation, key);
  return out;
}

Mix only(Operation operation) {
  Mix mix{};
  mix[static_cast<std::size_t>(operation)] = 1;
  return mix;
}

}  // namespace

TEST_CASE("commands are arrays of bulk strings with keys of twelve digits") {
  RequestShape shape;
  shape.prefix = "p";
  CHECK(written(Operation::kGet, 42, shape) == "*2\r\n$3\r\nGET\r\n$13\r\np000000000042\r\n");
  CHECK(written(Operation::kIncr, 7, shape) == "*2\r\n$4\r\nINCR\r\n$15\r\npc:000000000007\r\n");
  CHECK(written(Operation::kHget, 7, shape) == "*3\r\n$4\r\nHGET\r\n$15\r\nph:000000000007\r\n$1\r\nf\r\n");
  shape.value_bytes = 0;
  CHECK(written(Operation::kSet, 999'999'999'999, shape) == "*3\r\n$3\r\nSET\r\n$13\r\np999999999999\r\n$0\r\n\r\n");
}

TEST_CASE("values have the length asked for") {
  RequestShape shape;
  shape.value_bytes = 1000;
  const std::string request = written(Operation::kSet, 0, shape);
  CHECK(request.find("$1000\r\n") != std::string::npos);
  CHECK(request.size() == written(Operation::kSet, 0, RequestShape{"key:", 64, 10}).size() + 1000 - 64 + 2);
}

TEST_CASE("an mget names as many keys as its head says") {
  RequestShape shape;
  shape.mget_keys = 3;
  MixedRequests requests(shape, only(Operation::kMget), KeyDistribution(KeyShape::kUniform, 1, 1), 1, 1);
  std::string out;
  CHECK(requests.append(out));
  CHECK(out == "*4\r\n$4\r\nMGET\r\n$16\r\nkey:000000000000\r\n$16\r\nkey:000000000000\r\n$16\r\nkey:000000000000\r\n");
  CHECK_FALSE(requests.append(out));
}

TEST_CASE("the mix is kept to within a percent") {
  Mix mix{};
  mix[static_cast<std::size_t>(Operation::kGet)] = 90;
  mix[static_cast<std::size_t>(Operation::kSet)] = 10;
  MixedRequests requests({}, mix, KeyDistribution(KeyShape::kUniform, 1000, 1), 0, 1);
  std::map<char, int> found;
  for (int i = 0; i < 100'000; ++i) {
    std::string out;
    REQUIRE(requests.append(out));
    ++found[out[8]];  // the first letter of the command's name
  }
  CHECK(found.size() == 2);
  CHECK(found['S'] == Approx(10'000).margin(1000));
}

TEST_CASE("every key once means every key once, in order") {
  EveryKeyOnce requests({}, Operation::kGet, 3);
  std::string out;
  while (requests.append(out)) {}
  CHECK(out == written(Operation::kGet, 0) + written(Operation::kGet, 1) + written(Operation::kGet, 2));
}
