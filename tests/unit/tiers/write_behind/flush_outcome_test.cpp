#include "tiers/write_behind/flush_outcome.hpp"

#include <catch2/catch.hpp>

namespace nearcached::tiers::write_behind {
namespace {

TEST_CASE("what was taken is applied, whatever the answer says", "[flush_outcome]") {
  for (const char* reply : {"+OK\r\n", ":1\r\n", ":0\r\n", "$-1\r\n", "_\r\n"}) {
    CHECK(flush_outcome(reply, false) == FlushOutcome::kApplied);
  }
}

TEST_CASE("what may pass is tried again", "[flush_outcome]") {
  for (const char* reply :
       {"-LOADING Redis is loading the dataset in memory\r\n", "-CLUSTERDOWN Hash slot not served\r\n",
        "-MISCONF Redis is configured to save RDB snapshots, but\r\n",
        "-READONLY You can't write against a read only replica.\r\n", "-NOREPLICAS Not enough good replicas to write.\r\n",
        "-BUSY Redis is busy running a script.\r\n", "-NOAUTH Authentication required.\r\n", "-MOVED 1 127.0.0.1:7000\r\n",
        "-ERR max number of clients reached\r\n"}) {
    CHECK(flush_outcome(reply, false) == FlushOutcome::kAgain);
  }
  CHECK(flush_outcome("ERR nearcached: no connection to 127.0.0.1:7000", true) == FlushOutcome::kAgain);
}

TEST_CASE("what would be refused for ever is a dead letter", "[flush_outcome]") {
  for (const char* reply : {"-WRONGTYPE Operation against a key\r\n", "-NOPERM this user has no permissions\r\n",
                            "-OOM command not allowed when used memory > 'maxmemory'.\r\n", "-ERR syntax error\r\n",
                            "-ERR max number of something else\r\n", "-ASKING is no such code\r\n", "-\r\n"}) {
    CHECK(flush_outcome(reply, false) == FlushOutcome::kNever);
  }
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
