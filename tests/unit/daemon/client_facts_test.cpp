#include "daemon/client_facts.hpp"

#include <catch2/catch.hpp>

namespace nearcached::daemon {
namespace {

using Args = std::vector<std::string_view>;

ClientFacts client(std::uint64_t id) {
  ClientFacts facts;
  facts.id = id;
  facts.address = "127.0.0.1:" + std::to_string(5000 + id);
  facts.local_address = "127.0.0.1:6379";
  facts.user = "default";
  return facts;
}

std::string kill_error(const Args& args) {
  ClientFilter filter;
  return parse_client_kill(args, filter);
}

ClientFilter kill(const Args& args) {
  ClientFilter filter;
  REQUIRE(parse_client_kill(args, filter).empty());
  return filter;
}

}  // namespace

TEST_CASE("a line of CLIENT LIST has Redis's fields in Redis's order", "[client]") {
  ClientFacts facts = client(7);
  facts.fd = 12;
  facts.name = "worker";
  facts.age_s = 30;
  facts.idle_s = 2;
  facts.database = 4;
  facts.command = "client|list";
  facts.library_name = "lib";
  facts.protocol = 3;
  CHECK(facts.line() ==
        "id=7 addr=127.0.0.1:5007 laddr=127.0.0.1:6379 fd=12 name=worker age=30 idle=2 flags=N db=4 sub=0 psub=0 ssub=0 "
        "multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r "
        "cmd=client|list user=default redir=-1 resp=3 lib-name=lib lib-ver=\n");
}

TEST_CASE("flags tell subscribers, transactions, blocked, closing and unix clients", "[client]") {
  ClientFacts facts = client(1);
  facts.patterns = 2;
  facts.queued = 0;
  facts.blocked = true;
  facts.closing = true;
  facts.address = "unix";
  CHECK(facts.line().find(" flags=PxbcU ") != std::string::npos);
  CHECK(facts.line().find(" multi=0 ") != std::string::npos);
  CHECK(facts.line().find(" cmd=NULL ") != std::string::npos);
}

TEST_CASE("CLIENT KILL's old form means one address, the asker's own too", "[client]") {
  const ClientFilter filter = kill({"CLIENT", "KILL", "127.0.0.1:5001"});
  CHECK(filter.old_form);
  CHECK(filter.matches(client(1), 1));
  CHECK_FALSE(filter.matches(client(2), 1));
}

TEST_CASE("CLIENT KILL spares who asks unless SKIPME is no, whatever comes first", "[client]") {
  CHECK_FALSE(kill({"CLIENT", "KILL", "ID", "1"}).matches(client(1), 1));
  CHECK(kill({"CLIENT", "KILL", "ID", "1", "SKIPME", "no"}).matches(client(1), 1));
  CHECK(kill({"client", "kill", "skipme", "NO", "id", "1"}).matches(client(1), 1));
  CHECK(kill({"CLIENT", "KILL", "ID", "1"}).matches(client(1), 2));
}

TEST_CASE("all filters of CLIENT KILL must agree", "[client]") {
  const ClientFilter filter = kill({"CLIENT", "KILL", "ADDR", "127.0.0.1:5003", "USER", "app", "MAXAGE", "10"});
  ClientFacts facts = client(3);
  CHECK_FALSE(filter.matches(facts, 1));
  facts.user = "app";
  CHECK_FALSE(filter.matches(facts, 1));
  facts.age_s = 10;
  CHECK(filter.matches(facts, 1));
  facts.address += "0";
  CHECK_FALSE(filter.matches(facts, 1));
  CHECK_FALSE(kill({"CLIENT", "KILL", "LADDR", "127.0.0.1:1"}).matches(client(3), 1));
}

TEST_CASE("a subscriber is no normal client, and nobody is a master or a replica", "[client]") {
  ClientFacts subscriber = client(3);
  subscriber.shard_channels = 1;
  CHECK(kill({"CLIENT", "KILL", "TYPE", "pubsub"}).matches(subscriber, 1));
  CHECK_FALSE(kill({"CLIENT", "KILL", "TYPE", "normal"}).matches(subscriber, 1));
  CHECK(kill({"CLIENT", "KILL", "TYPE", "NORMAL"}).matches(client(4), 1));
  for (const std::string_view type : {"master", "slave", "replica"}) {
    CHECK_FALSE(kill({"CLIENT", "KILL", "TYPE", type}).matches(client(4), 1));
  }
}

TEST_CASE("what CLIENT KILL does not understand is refused in Redis's words", "[client]") {
  CHECK(kill_error({"CLIENT", "KILL", "ID", "0"}) == "ERR client-id should be greater than 0");
  CHECK(kill_error({"CLIENT", "KILL", "ID", "7x"}) == "ERR client-id should be greater than 0");
  CHECK(kill_error({"CLIENT", "KILL", "ID", "99999999999999999999"}) == "ERR client-id should be greater than 0");
  CHECK(kill_error({"CLIENT", "KILL", "TYPE", "x"}) == "ERR Unknown client type 'x'");
  CHECK(kill_error({"CLIENT", "KILL", "MAXAGE", "0"}) == "ERR maxage should be greater than 0");
  CHECK(kill_error({"CLIENT", "KILL", "SKIPME", "maybe"}) == "ERR syntax error");
  CHECK(kill_error({"CLIENT", "KILL", "ID", "1", "ADDR"}) == "ERR syntax error");
  CHECK(kill_error({"CLIENT", "KILL", "COLOR", "red"}) == "ERR syntax error");
}

TEST_CASE("CLIENT LIST takes one type or many ids, and means who asks too", "[client]") {
  ClientFilter all;
  CHECK(parse_client_list(Args{"CLIENT", "LIST"}, all).empty());
  CHECK(all.matches(client(1), 1));
  ClientFilter some;
  CHECK(parse_client_list(Args{"CLIENT", "LIST", "ID", "3", "1"}, some).empty());
  CHECK(some.matches(client(1), 1));
  CHECK(some.matches(client(3), 1));
  CHECK_FALSE(some.matches(client(2), 1));
  ClientFilter wrong;
  CHECK(parse_client_list(Args{"CLIENT", "LIST", "ID"}, wrong) == "ERR syntax error");
  CHECK(parse_client_list(Args{"CLIENT", "LIST", "ID", "1", "b"}, wrong) == "ERR Invalid client ID");
  CHECK(parse_client_list(Args{"CLIENT", "LIST", "TYPE", "b"}, wrong) == "ERR Unknown client type 'b'");
  CHECK(parse_client_list(Args{"CLIENT", "LIST", "TYPE", "normal", "x"}, wrong) == "ERR syntax error");
}

}  // namespace nearcached::daemon
