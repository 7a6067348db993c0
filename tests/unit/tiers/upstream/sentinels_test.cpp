#include "tiers/upstream/sentinels.hpp"

#include <catch2/catch.hpp>

namespace nearcached::tiers::upstream {
namespace {

ControlReply text(std::string value) { return {ControlReply::Type::kString, 0, std::move(value), {}}; }

ControlReply array(const std::vector<std::string>& values) {
  ControlReply reply;
  reply.type = ControlReply::Type::kArray;
  for (const std::string& value : values) reply.elements.push_back(text(value));
  return reply;
}

}  // namespace

TEST_CASE("a master's address is a host and a port") {
  CHECK(parse_master_address(array({"10.0.0.1", "6379"})) == Endpoint{"10.0.0.1", 6379});
  CHECK(parse_master_address(array({"redis-0.redis", "65535"})) == Endpoint{"redis-0.redis", 65535});
}

TEST_CASE("what is no address is none, so that nobody votes for it") {
  CHECK_FALSE(parse_master_address(ControlReply()));
  CHECK_FALSE(parse_master_address(text("10.0.0.1")));
  for (const auto& values : std::vector<std::vector<std::string>>{
           {}, {"h"}, {"h", "1", "2"}, {"", "1"}, {"h", ""}, {"h", "0"}, {"h", "65536"}, {"h", "1x"}, {"h", "-1"}}) {
    CHECK_FALSE(parse_master_address(array(values)));
  }
}

TEST_CASE("fields of a flat list are found by name, not by value") {
  const ControlReply list = array({"name", "port", "port", "26379", "odd"});
  CHECK(field_of(list, "port") == "26379");
  CHECK(field_of(list, "name") == "port");
  CHECK(field_of(list, "odd").empty());
  CHECK(field_of(list, "26379").empty());
  CHECK(field_of(ControlReply(), "port").empty());
}

}  // namespace nearcached::tiers::upstream
