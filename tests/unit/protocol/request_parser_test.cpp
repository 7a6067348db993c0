#include "protocol/request_parser.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "protocol/writer.hpp"

using namespace nearcached::protocol;
using namespace std::string_literals;

namespace {

struct Seen {
  std::vector<std::vector<std::string>> commands;
  std::vector<bool> inlined;
  std::string error;
  std::size_t consumed = 0;
  bool operator==(const Seen&) const = default;
};

// Plays a connection: the pieces arrive one after another, and every call of the parser sees another buffer of exactly the
// bytes that are there, so that a stale view or a byte read too far is found by the address sanitizer.
class Connection {
 public:
  explicit Connection(RequestLimits limits = {}) : limits_(limits) {}

  void receive(std::string_view piece) {
    pending_.append(piece);
    while (seen_.error.empty()) {
      const std::vector<char> copy(pending_.begin(), pending_.end());
      const ParseStatus status = parser_.parse({copy.data(), copy.size()}, limits_);
      if (status == ParseStatus::kNeedMore) return;
      if (status == ParseStatus::kError) {
        seen_.error = parser_.error();
        return;
      }
      if (status == ParseStatus::kComplete) {
        seen_.commands.emplace_back(parser_.args().begin(), parser_.args().end());
        seen_.inlined.push_back(parser_.is_inline());
      }
      seen_.consumed += parser_.consumed();
      pending_.erase(0, parser_.consumed());
    }
  }

  [[nodiscard]] const Seen& seen() const { return seen_; }

 private:
  RequestLimits limits_;
  RequestParser parser_;
  std::string pending_;
  Seen seen_;
};

Seen whole(std::string_view stream) {
  Connection connection;
  connection.receive(stream);
  return connection.seen();
}

std::vector<std::string> corpus() {
  std::vector<std::string> streams = {
      "*1\r\n$4\r\nPING\r\n",
      "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
      "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$12\r\n\r\n\r\n$3\r\nab*\r\n",
      "PING\r\n\r\nPING\n*0\r\n*-1\r\n*1\r\n$4\r\nQUIT\r\nSET a \"b\\x00\\n\" 'c\\''\r\n",
      "*2\r\n$4\r\nECHO\r\n$5\r\nhello??*1\r\n$4\r\nPING\r\n",
      "*2\rX$4\rYECHO\r\n$1\rZaZZPING\n",
      "*11\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n$1\r\n6\r\n$1\r\n7\r\n$1\r\n8\r\n$1\r\n9\r\n$"
      "2\r\n10\r\n$2\r\n11\r\n",
      "*1\r\n$4\r\nPING\r\n*1\r\n:3\r\nrest",
      "*2\r\n$4\r\nECHO\r\n$7\r\n$1\r\nx\r\n\r\n*1\r\n$4\r\nPING\r\n",
      "*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$-1\r\n",
      "PING\r\n*x\r\n",
      "ECHO \"open\r\nPING\r\n",
      "PING\r\nPI\0NG\r\nPING\r\n"s,
      "*2\r\n$1\r\na\r\n$2\0\r\nbb\r\n"s,
  };
  std::string large;
  append_command(large, {"SET", "k", std::string(300, '$'), "*1\r\n$1\r\nx\r\n"});
  streams.push_back(large + "*1\r\n$4\r\nPING\r\n");
  return streams;
}

}  // namespace

TEST_CASE("a stream cut in two anywhere gives the same commands") {
  for (const std::string& stream : corpus()) {
    const Seen expected = whole(stream);
    for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
      Connection connection;
      connection.receive(std::string_view(stream).substr(0, cut));
      connection.receive(std::string_view(stream).substr(cut));
      INFO(stream << " cut at " << cut);
      REQUIRE(connection.seen() == expected);
    }
  }
}

TEST_CASE("a stream cut in three anywhere gives the same commands") {
  for (const std::string& stream : corpus()) {
    if (stream.size() > 100) continue;
    const Seen expected = whole(stream);
    for (std::size_t first = 0; first <= stream.size(); ++first) {
      for (std::size_t second = first; second <= stream.size(); ++second) {
        Connection connection;
        connection.receive(std::string_view(stream).substr(0, first));
        connection.receive(std::string_view(stream).substr(first, second - first));
        connection.receive(std::string_view(stream).substr(second));
        INFO(stream << " cut at " << first << " and " << second);
        REQUIRE(connection.seen() == expected);
      }
    }
  }
}

TEST_CASE("a stream that arrives byte by byte gives the same commands") {
  for (const std::string& stream : corpus()) {
    Connection connection;
    for (const char c : stream) connection.receive({&c, 1});
    INFO(stream);
    REQUIRE(connection.seen() == whole(stream));
  }
}

TEST_CASE("the corpus holds commands, inline commands and errors") {
  const Seen seen = whole(corpus()[3]);
  REQUIRE(seen.commands.size() == 4);
  CHECK(seen.commands[3] == std::vector<std::string>{"SET", "a", "b\0\n"s, "c'"});
  CHECK(seen.inlined == std::vector<bool>{true, true, false, true});
  CHECK(seen.consumed == corpus()[3].size());
  CHECK(whole(corpus()[7]).error == "Protocol error: expected '$', got ':'");
  CHECK(whole(corpus()[7]).commands.size() == 1);
}

TEST_CASE("nothing is decided on no bytes at all") {
  RequestParser parser;
  CHECK(parser.parse({}, {}) == ParseStatus::kNeedMore);
  CHECK_FALSE(parser.mid_command());
  CHECK(parser.parse("PING\r\n", {}) == ParseStatus::kComplete);
}

TEST_CASE("a large argument says how many bytes it needs, and the parser waits for the last of them") {
  const std::string head = "*2\r\n$4\r\nECHO\r\n$1000\r\n";
  const std::string stream = head + std::string(1000, 'v') + "\r\n";
  RequestParser parser;
  CHECK(parser.parse(std::string_view(stream).substr(0, 3), {}) == ParseStatus::kNeedMore);
  CHECK(parser.bytes_wanted() == 0);
  CHECK(parser.mid_command());
  CHECK(parser.parse(head, {}) == ParseStatus::kNeedMore);
  CHECK(parser.bytes_wanted() == stream.size());
  CHECK(parser.parse(std::string_view(stream).substr(0, stream.size() - 1), {}) == ParseStatus::kNeedMore);
  CHECK(parser.bytes_wanted() == stream.size());
  REQUIRE(parser.parse(stream, {}) == ParseStatus::kComplete);
  CHECK(parser.consumed() == stream.size());
  CHECK(parser.args()[1].data() == stream.data() + head.size());
  CHECK_FALSE(parser.mid_command());
}

TEST_CASE("an announced argument count alone takes no memory") {
  RequestParser parser;
  REQUIRE(parser.parse("*1048576\r\n", {}) == ParseStatus::kNeedMore);
  CHECK(parser.memory_bytes() < 1024);
  REQUIRE(parser.parse("*1048576\r\n$1\r\na\r\n$536870912\r\n", {}) == ParseStatus::kNeedMore);
  CHECK(parser.memory_bytes() < 1024);
}

TEST_CASE("a command of 100,000 arguments that arrives byte by byte is parsed once, not once per byte") {
  std::vector<std::string> args(100'000);
  for (std::size_t i = 0; i < args.size(); ++i) args[i] = std::to_string(i);
  std::string stream;
  append_command(stream, args);
  RequestParser parser;
  std::string moved = stream;  // the second half of the bytes is parsed in another buffer
  for (std::size_t size = 1; size < stream.size(); ++size) {
    const std::string& buffer = size < stream.size() / 2 ? stream : moved;
    if (parser.parse({buffer.data(), size}, {}) != ParseStatus::kNeedMore) FAIL("ended at " << size);
    if (size == stream.size() / 2) stream.assign(stream.size(), '?');
  }
  REQUIRE(parser.parse(moved, {}) == ParseStatus::kComplete);
  CHECK(std::vector<std::string>(parser.args().begin(), parser.args().end()) == args);
}

TEST_CASE("an endless header line that arrives byte by byte is scanned once, with or without a NUL in it") {
  RequestLimits limits;
  limits.inline_bytes_max = 4 * 1024 * 1024;
  for (const std::string& head : {"*"s, "PING "s, "*1\r\n$"s, "PI\0"s}) {
    std::string stream = head + std::string(limits.inline_bytes_max - 10, '1');
    RequestParser parser;
    for (std::size_t size = 1; size <= stream.size(); ++size) {
      if (parser.parse({stream.data(), size}, limits) != ParseStatus::kNeedMore) FAIL("ended at " << size);
    }
  }
}

TEST_CASE("commands of the same shape need no new memory") {
  const std::string multibulk = "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n";
  const std::string inlined = "SET key \"value\"\r\n";
  RequestParser parser;
  const auto round = [&] {
    REQUIRE(parser.parse(multibulk, {}) == ParseStatus::kComplete);
    REQUIRE(parser.parse(inlined, {}) == ParseStatus::kComplete);
    REQUIRE(parser.parse(std::string_view(multibulk).substr(0, 20), {}) == ParseStatus::kNeedMore);
    REQUIRE(parser.parse(multibulk, {}) == ParseStatus::kComplete);
  };
  round();
  const std::size_t memory = parser.memory_bytes();
  const void* const slots = parser.args().data();
  for (int i = 0; i < 100; ++i) round();
  CHECK(parser.memory_bytes() == memory);
  CHECK(parser.args().data() == slots);
}

TEST_CASE("arguments of an inline command stay where they were put while later ones are added") {
  RequestParser parser;
  const std::string line = "a " + std::string(20, 'b') + " " + std::string(2000, 'c') + "\r\n";
  REQUIRE(parser.parse(line, {}) == ParseStatus::kComplete);
  REQUIRE(parser.args().size() == 3);
  CHECK(parser.args()[1].data() == parser.args()[0].data() + 1);
  CHECK(parser.args()[2].data() == parser.args()[1].data() + 20);
}

TEST_CASE("the memory of a huge command is given back with the next one") {
  std::string huge;
  append_command(huge, std::vector<std::string>(50'000, "x"));
  RequestParser parser;
  REQUIRE(parser.parse(std::string_view(huge).substr(0, huge.size() - 1), {}) == ParseStatus::kNeedMore);
  REQUIRE(parser.parse(huge, {}) == ParseStatus::kComplete);
  CHECK(parser.memory_bytes() > 1'000'000);
  REQUIRE(parser.parse("*1\r\n$4\r\nPING\r\n", {}) == ParseStatus::kComplete);
  CHECK(parser.memory_bytes() < 1024);
}

TEST_CASE("an idle parser gives everything back, one in the middle of a command loses nothing") {
  const std::string stream = "*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n";
  RequestParser parser;
  REQUIRE(parser.parse(std::string_view(stream).substr(0, 16), {}) == ParseStatus::kNeedMore);
  parser.release();
  REQUIRE(parser.parse(stream, {}) == ParseStatus::kComplete);
  CHECK(parser.args() == std::vector<std::string_view>{"ECHO", "hi"});
  parser.release();
  CHECK(parser.args().empty());
  CHECK(parser.memory_bytes() <= std::string().capacity());
  REQUIRE(parser.parse(stream, {}) == ParseStatus::kComplete);
}

TEST_CASE("a protocol error is final") {
  RequestParser parser;
  REQUIRE(parser.parse("*1\r\n!\r\n", {}) == ParseStatus::kError);
  REQUIRE(parser.parse("*1\r\n$4\r\nPING\r\n", {}) == ParseStatus::kError);
  CHECK(parser.args().empty());
  RequestParser moved = std::move(parser);
  CHECK(moved.error() == "Protocol error: expected '$', got '!'");
}
