#include "tiers/upstream/cluster_nodes.hpp"

#include <catch2/catch.hpp>
#include <string>

namespace nearcached::tiers::upstream {
namespace {

// As Redis 7.0 writes it, with one slot leaving and one arriving.
const std::string kText =
    "07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004,hostname4 slave "
    "e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 0 "
    "1426238317239 4 connected\n"
    "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 127.0.0.1:30002@31002,hostname2 master - 0 1426238316232 2 connected "
    "5461-10922\n"
    "e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 127.0.0.1:30001@31001,hostname1 myself,master - 0 0 7 connected 0-5459 5462 "
    "[93->-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f] [16383-<-67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1]\n"
    "6ec23923021cf3ffec47632106199cb7f496ce01 127.0.0.1:30005@31005,hostname5 slave "
    "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 0 "
    "1426238316232 5 connected\n";

std::string own_line(const std::string& flags, const std::string& slots) {
  return "e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 127.0.0.1:30001@31001 " + flags + " - 0 0 7 connected" + slots + "\n";
}

}  // namespace

TEST_CASE("the node's own line gives role, epoch, owned and open slots", "[cluster_nodes]") {
  const auto view = parse_own_view(kText);
  REQUIRE(view);
  CHECK(view->role == NodeRole::kPrimary);
  CHECK(view->flags == NodeFlags{});
  CHECK(view->config_epoch == 7);
  CHECK(view->owned.count() == 5461);
  CHECK(view->owned[0]);
  CHECK(view->owned[5459]);
  CHECK_FALSE(view->owned[5460]);
  CHECK_FALSE(view->owned[5461]);
  CHECK(view->owned[5462]);
  CHECK(view->migrating == OwnView::SlotSet().set(93));
  CHECK(view->owned[93]);
  CHECK(view->importing == OwnView::SlotSet().set(16383));
  CHECK_FALSE(view->owned[16383]);
}

TEST_CASE("a replica owns nothing", "[cluster_nodes]") {
  const auto view = parse_own_view(own_line("myself,slave,nofailover", ""));
  REQUIRE(view);
  CHECK(view->role == NodeRole::kReplica);
  CHECK(view->flags.no_failover);
  CHECK(view->owned.none());
}

TEST_CASE("the words of newer servers for the roles are understood", "[cluster_nodes]") {
  CHECK(parse_own_view(own_line("myself,primary", " 1"))->role == NodeRole::kPrimary);
  CHECK(parse_own_view(own_line("myself,replica,new-flag", ""))->role == NodeRole::kReplica);
}

TEST_CASE("fail and fail? are told apart", "[cluster_nodes]") {
  const auto suspected = parse_own_view(own_line("myself,master,fail?", " 1"));
  CHECK(suspected->flags.possibly_failing);
  CHECK_FALSE(suspected->flags.failing);
  const auto failed = parse_own_view(own_line("myself,master,fail,noaddr", " 1"));
  CHECK_FALSE(failed->flags.possibly_failing);
  CHECK(failed->flags.failing);
  CHECK(failed->flags.no_address);
}

TEST_CASE("a view that was cut off anywhere in the own line or before is none", "[cluster_nodes]") {
  const std::size_t own_line_end = kText.find('\n', kText.find("myself")) + 1;
  for (std::size_t size = 0; size < own_line_end; ++size) {
    INFO(size);
    CHECK_FALSE(parse_own_view(std::string_view(kText).substr(0, size)));
  }
  CHECK(parse_own_view(std::string_view(kText).substr(0, own_line_end)));
}

TEST_CASE("only the flag field says which line is the own one", "[cluster_nodes]") {
  CHECK_FALSE(parse_own_view("myself 127.0.0.1:1@2,myself master myself 0 0 7 connected 0-16383\n"));
  CHECK_FALSE(parse_own_view(own_line("notmyself,master", " 1")));
  CHECK_FALSE(parse_own_view(own_line("myself,master", " 1") + own_line("myself,master", " 2")));
}

TEST_CASE("malformed lines give no view", "[cluster_nodes]") {
  for (const char* slots :
       {" x",        " 16384",         " 0-16384",  " 5-4",      " -5",       " 5-",    " 5-6-7",  " +5",
        " 5.",       " 99999999999",   " [",        " []",       " [5]",      " [5->]", " [5->-]", " [5-x-abc]",
        " [5->abc]", " [16384->-abc]", " [->-abc]", " [5->-abc", " [5-<abc-]"}) {
    INFO(slots);
    CHECK_FALSE(parse_own_view(own_line("myself,master", slots)));
  }
  CHECK_FALSE(parse_own_view(own_line("myself", " 1")));
  CHECK_FALSE(parse_own_view(own_line("myself,master,slave", " 1")));
  CHECK_FALSE(parse_own_view("id 127.0.0.1:1@2 myself,master - 0 0 x connected 5\n"));
  CHECK_FALSE(parse_own_view("id 127.0.0.1:1@2 myself,master\n"));
  CHECK_FALSE(parse_own_view("\n"));
}

TEST_CASE("a carriage return before the newline and a doubled space do no harm", "[cluster_nodes]") {
  const auto view = parse_own_view("id a:1@2 myself,master - 0 0 7 connected 1  3\r\n");
  REQUIRE(view);
  CHECK(view->owned == OwnView::SlotSet().set(1).set(3));
}

TEST_CASE("CLUSTER INFO tells state and epoch", "[cluster_nodes]") {
  const auto info = parse_cluster_info("cluster_state:ok\r\ncluster_slots_ok:16384\r\ncluster_current_epoch:12\r\n");
  CHECK(info.state == ClusterState::kOk);
  CHECK(info.current_epoch == 12);
  CHECK(parse_cluster_info("cluster_state:fail\r\n").state == ClusterState::kFail);
  CHECK(parse_cluster_info("cluster_state:okay\r\n").state == ClusterState::kUnknown);
  CHECK(parse_cluster_info("my_cluster_state:fail\r\n").state == ClusterState::kUnknown);
  CHECK(parse_cluster_info("cluster_state\r\n").state == ClusterState::kUnknown);
  CHECK(parse_cluster_info("cluster_current_epoch:-1\n").current_epoch == 0);
  CHECK(parse_cluster_info("").state == ClusterState::kUnknown);
}

TEST_CASE("a field of INFO is found by its whole name", "[cluster_nodes]") {
  const std::string_view text = "# Server\r\nredis_version_long:x\r\nredis_version:7.0.15\r\nlast:a:b";
  CHECK(info_field(text, "redis_version") == "7.0.15");
  CHECK(info_field(text, "last") == "a:b");
  CHECK(info_field(text, "redis").empty());
}

}  // namespace nearcached::tiers::upstream
