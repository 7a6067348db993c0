#include "daemon/info_text.hpp"

#include <catch2/catch.hpp>

namespace nearcached::daemon {
namespace {

std::string merged(std::string text, const std::vector<std::string>& others) {
  merge_keyspaces(text, others);
  return text;
}

}  // namespace

TEST_CASE("a database's keys are added up over the nodes, its average is weighed", "[info_text]") {
  CHECK(merged("# Keyspace\r\ndb0:keys=10,expires=1,avg_ttl=1000\r\n",
               {"# Keyspace\r\ndb0:keys=5,expires=3,avg_ttl=2000\r\n", "# Keyspace\r\n"}) ==
        "# Keyspace\r\ndb0:keys=15,expires=4,avg_ttl=1750\r\n");
}

TEST_CASE("a node without keys that comes first gets the others' databases, in order of number", "[info_text]") {
  CHECK(merged("# Keyspace\r\n", {"# Keyspace\r\ndb10:keys=1,expires=0,avg_ttl=0\r\ndb2:keys=2,expires=0,avg_ttl=0\r\n"}) ==
        "# Keyspace\r\ndb2:keys=2,expires=0,avg_ttl=0\r\ndb10:keys=1,expires=0,avg_ttl=0\r\n");
}

TEST_CASE("fields that are not known are added up as well", "[info_text]") {
  CHECK(merged("# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0,subexpiry=2\r\n",
               {"# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0,subexpiry=5\r\n"}) ==
        "# Keyspace\r\ndb0:keys=2,expires=0,avg_ttl=0,subexpiry=7\r\n");
}

TEST_CASE("what stands around the section stays", "[info_text]") {
  CHECK(merged("# Server\r\ndb9:x\r\n\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n\r\n# Other\r\na:b\r\n",
               {"# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n"}) ==
        "# Server\r\ndb9:x\r\n\r\n# Keyspace\r\ndb0:keys=2,expires=0,avg_ttl=0\r\n\r\n# Other\r\na:b\r\n");
  CHECK(merged("# Server\r\na:b\r\n", {"# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n"}) == "# Server\r\na:b\r\n");
}

TEST_CASE("lines that make no sense do no harm", "[info_text]") {
  CHECK(merged("# Keyspace\r\ndb0:keys=x,,=,expires\r\ndb", {"# Keyspace\r\ndbx:\r\ndb0"})
            .starts_with("# Keyspace\r\ndb0:keys=0"));
}

TEST_CASE("a line's value is replaced, and only where there is one", "[info_text]") {
  std::string text = "redis_mode:standalone\r\nos:Linux\r\n";
  replace_info_line(text, "redis_mode:", "cluster");
  replace_info_line(text, "cluster_enabled:", "1");
  CHECK(text == "redis_mode:cluster\r\nos:Linux\r\n");
}

}  // namespace nearcached::daemon
