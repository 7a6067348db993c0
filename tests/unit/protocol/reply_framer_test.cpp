#include "protocol/reply_framer.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

using namespace nearcached::protocol;
using namespace std::string_literals;

namespace {

struct Frame {
  std::size_t bytes;
  char type;
  bool nested_push;
  bool operator==(const Frame&) const = default;
};

struct Seen {
  std::vector<Frame> frames;
  FrameError error = FrameError::kNone;
  bool operator==(const Seen&) const = default;
};

class Stream {
 public:
  void receive(std::string_view piece) {
    const std::vector<char> copy(piece.begin(), piece.end());
    std::string_view rest(copy.data(), copy.size());
    while (!rest.empty() && seen_.error == FrameError::kNone) {
      const ReplyFramer::Step step = framer_.advance(rest);
      seen_.error = step.error;
      if (step.complete) seen_.frames.push_back({framer_.frame_bytes(), framer_.type(), framer_.nested_push()});
      rest.remove_prefix(step.bytes);
    }
  }
  [[nodiscard]] const Seen& seen() const { return seen_; }

 private:
  ReplyFramer framer_;
  Seen seen_;
};

Seen whole(std::string_view text) {
  Stream stream;
  stream.receive(text);
  return stream.seen();
}

FrameError error_of(std::string_view text) { return whole(text).error; }

// True if `text` is exactly one frame.
bool frames(std::string_view text) {
  const Seen seen = whole(text);
  return seen.error == FrameError::kNone && seen.frames.size() == 1 && seen.frames[0].bytes == text.size();
}

const std::vector<std::string>& replies() {
  static const std::vector<std::string> all = {
      "+OK\r\n",
      "+\r\n",
      "-ERR no\r\n",
      ":0\r\n",
      ":-9223372036854775808\r\n",
      ":9223372036854775807\r\n",
      "$0\r\n\r\n",
      "$5\r\na\r\nb\n\r\n",
      "$-1\r\n",
      "*-1\r\n",
      "*0\r\n",
      "*3\r\n:1\r\n$-1\r\n*1\r\n+x\r\n",
      "_\r\n",
      "#t\r\n",
      "#f\r\n",
      ",3.14\r\n",
      ",-inf\r\n",
      ",nan\r\n",
      "(-3492890328409238509324850943850943825024385\r\n",
      "!21\r\nSYNTAX invalid syntax\r\n",
      "=15\r\ntxt:Some string\r\n",
      "=4\r\ntxt:\r\n",
      "~2\r\n+a\r\n+b\r\n",
      "~0\r\n",
      "%2\r\n+k\r\n:1\r\n$1\r\nl\r\n%1\r\n_\r\n#t\r\n",
      "%0\r\n",
      ">2\r\n+message\r\n+x\r\n",
      ">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nfoo\r\n",
      "|1\r\n+ttl\r\n:3600\r\n*1\r\n|1\r\n+a\r\n~1\r\n:1\r\n$1\r\nx\r\n",
      "|0\r\n|0\r\n+OK\r\n",
      "*2\r\n:1\r\n>2\r\n+invalidate\r\n*1\r\n+k\r\n:2\r\n",
      "*1\r\n>0\r\n>1\r\n>1\r\n+a\r\n+b\r\n*1\r\n>0\r\n:1\r\n",
      "|1\r\n+a\r\n>1\r\n+in\r\n+b\r\n+OK\r\n",
  };
  return all;
}

}  // namespace

TEST_CASE("every type of RESP2 and RESP3 is one frame, and no prefix of it is") {
  for (const std::string& reply : replies()) {
    INFO(reply);
    CHECK(frames(reply));
    for (std::size_t size = 0; size < reply.size(); ++size) {
      const Seen seen = whole(std::string_view(reply).substr(0, size));
      REQUIRE(seen.frames.empty());
      REQUIRE(seen.error == FrameError::kNone);
    }
  }
}

TEST_CASE("a stream of replies cut in two anywhere gives the same frames") {
  std::string stream;
  for (const std::string& reply : replies()) stream += reply;
  for (const std::string& tail : {""s, "$3\r\nabcX\r\n"s, "*2\r\n:1\r\n:x\r\n"s, "?\r\n"s, "*1\r\n"s, "#x\r\n"s}) {
    const Seen expected = whole(stream + tail);
    REQUIRE(expected.frames.size() == replies().size());
    for (std::size_t cut = 0; cut <= stream.size() + tail.size(); ++cut) {
      Stream pieces;
      pieces.receive((stream + tail).substr(0, cut));
      pieces.receive((stream + tail).substr(cut));
      INFO("cut at " << cut);
      REQUIRE(pieces.seen() == expected);
    }
  }
}

TEST_CASE("a stream of replies that arrives byte by byte gives the same frames") {
  std::string stream;
  for (const std::string& reply : replies()) stream += reply;
  Stream pieces;
  for (const char c : stream) pieces.receive({&c, 1});
  CHECK(pieces.seen() == whole(stream));
  CHECK(pieces.seen().frames.size() == replies().size());
}

TEST_CASE("at the top level a push is a frame of its own, inside an aggregate its parent does not count it") {
  CHECK(whole(">1\r\n+a\r\n:1\r\n").frames == std::vector<Frame>{{8, '>', false}, {4, ':', false}});
  CHECK(whole("*2\r\n>1\r\n+a\r\n:1\r\n:2\r\n:3\r\n").frames == std::vector<Frame>{{20, '*', true}, {4, ':', false}});
  CHECK(whole("%1\r\n:1\r\n>1\r\n+a\r\n:2\r\n").frames == std::vector<Frame>{{20, '%', true}});
  CHECK(whole(">1\r\n>1\r\n+a\r\n:1\r\n").frames == std::vector<Frame>{{16, '>', true}});
  // Behind the last element the parent is over: the push is the next frame.
  CHECK(whole("*1\r\n:1\r\n>1\r\n+a\r\n").frames == std::vector<Frame>{{8, '*', false}, {8, '>', false}});
}

TEST_CASE("an attribute belongs to the reply behind it and does not change its type") {
  CHECK(whole("|1\r\n+a\r\n+b\r\n$1\r\nx\r\n").frames == std::vector<Frame>{{19, '$', false}});
  CHECK(whole("|1\r\n+a\r\n+b\r\n>1\r\n+x\r\n").frames == std::vector<Frame>{{20, '>', false}});
  CHECK(whole("*1\r\n|1\r\n+a\r\n+b\r\n:7\r\n:8\r\n").frames == std::vector<Frame>{{20, '*', false}, {4, ':', false}});
  CHECK(whole("|1\r\n+a\r\n+b\r\n").frames.empty());
}

TEST_CASE("type and size of the reply under way can be asked") {
  ReplyFramer framer;
  CHECK(framer.type() == 0);
  CHECK(framer.frame_bytes() == 0);
  CHECK_FALSE(framer.advance("|1\r\n").complete);
  CHECK(framer.type() == '|');
  CHECK_FALSE(framer.advance("+a\r\n+b\r\n$5\r\nab").complete);
  CHECK(framer.type() == '$');
  CHECK(framer.frame_bytes() == 18);
  const ReplyFramer::Step step = framer.advance("cde\r\n+next\r\n");
  CHECK(step.complete);
  CHECK(step.bytes == 5);
  CHECK(framer.frame_bytes() == 23);
  CHECK(framer.advance("+").bytes == 1);
  CHECK(framer.type() == '+');
  CHECK(framer.frame_bytes() == 1);
}

TEST_CASE("lengths that are not canonical decimals within the bound are refused") {
  for (const char* text : {"$\r\n",
                           "$x\r\n",
                           "$+1\r\n",
                           "$01\r\n",
                           "$-0\r\n",
                           "$-2\r\n",
                           "$--1\r\n",
                           "$1 \r\n",
                           "$1\n",
                           "$1\rx",
                           "$-\r\n",
                           "$ 1\r\n",
                           "*-2\r\n",
                           "*x\r\n",
                           "!-1\r\n",
                           "=-1\r\n",
                           "=3\r\ntxt\r\n",
                           "~-1\r\n",
                           "%-1\r\n",
                           ">-1\r\n",
                           "|-1\r\n",
                           "$1099511627777\r\n",
                           "*1073741825\r\n",
                           "%1073741825\r\n",
                           "$9223372036854775808\r\n",
                           "*99999999999999999999\r\n",
                           ":\r\n",
                           ":x\r\n",
                           ":1.5\r\n",
                           ":+1\r\n",
                           ":01\r\n",
                           ":-0\r\n",
                           ":9223372036854775808\r\n",
                           ":-9223372036854775809\r\n",
                           ":18446744073709551617\r\n"}) {
    INFO(text);
    CHECK(error_of(text) == FrameError::kBadLength);
  }
  CHECK(error_of("$1099511627776\r\n") == FrameError::kNone);
  CHECK(error_of("*1073741824\r\n") == FrameError::kNone);
}

TEST_CASE("streamed types of the specification are refused") {
  CHECK(error_of("$?\r\n;4\r\nHell\r\n;0\r\n") == FrameError::kBadLength);
  CHECK(error_of("*?\r\n:1\r\n.\r\n") == FrameError::kBadLength);
  CHECK(error_of("%?\r\n") == FrameError::kBadLength);
  CHECK(error_of(";4\r\n") == FrameError::kBadType);
  CHECK(error_of(".\r\n") == FrameError::kBadType);
}

TEST_CASE("the first byte of an element names its type or is refused") {
  const std::string known = "+-:$*_#,(!=~%>|";
  for (int c = 0; c < 256; ++c) {
    const char type = static_cast<char>(c);
    const FrameError expected = known.find(type) == std::string::npos ? FrameError::kBadType : FrameError::kNone;
    CHECK(error_of({&type, 1}) == expected);
    CHECK(error_of("*2\r\n:1\r\n"s + type) == expected);
  }
}

TEST_CASE("a payload not followed by CR LF, a null with content and a boolean beside t and f are refused") {
  for (const char* text : {"$3\r\nabcd\r\n", "$3\r\nabc\n\r", "$3\r\nabc\rx", "$0\r\nx", "!1\r\nab", "=4\r\ntxt:x", "_x\r\n",
                           "_\n", "_\rx", "#\r\n", "#x\r\n", "#T\r\n", "#tt\r\n", "#t\n"}) {
    INFO(text);
    CHECK(error_of(text) == FrameError::kBadLine);
  }
}

TEST_CASE("a lone CR or LF is part of a line's text") {
  CHECK(frames("+a\rb\nc\r\r\n"));
  CHECK(frames("-\r\r\r\n"));
  CHECK(frames(",\n\r\n"));
}

TEST_CASE("a line is bounded, at whatever pace it arrives") {
  const std::string longest = "+" + std::string(ReplyFramer::kLineBytesMax, 'x');
  CHECK(frames(longest + "\r\n"));
  CHECK(error_of(longest + "x\r\n") == FrameError::kBadLine);
  CHECK(error_of(longest + "\r\r\n") == FrameError::kBadLine);
  Stream pieces;
  for (const char c : longest) pieces.receive({&c, 1});
  CHECK(pieces.seen().error == FrameError::kNone);
  pieces.receive("x");
  CHECK(pieces.seen().error == FrameError::kBadLine);
}

TEST_CASE("nesting is followed to its bound and refused beyond, whatever it is made of") {
  for (const std::string& open : {"*1\r\n"s, "~1\r\n"s, "%1\r\n"s, "|1\r\n"s, ">1\r\n"s}) {
    std::string deep;
    for (int i = 0; i < ReplyFramer::kDepthMax; ++i) deep += open;
    INFO(open);
    CHECK(error_of(deep + "*0\r\n") == FrameError::kNone);
    CHECK(error_of(deep + open) == FrameError::kTooDeep);
  }
  std::string arrays;
  for (int i = 0; i < ReplyFramer::kDepthMax; ++i) arrays += "*1\r\n";
  CHECK(frames(arrays + "*0\r\n"));
  CHECK(frames(arrays + "$1\r\nx\r\n"));
  // Depth is what is open, not what has been: siblings are free.
  std::string siblings = "*1000\r\n";
  for (int i = 0; i < 1000; ++i) siblings += "*1\r\n:1\r\n";
  CHECK(frames(siblings));
}

TEST_CASE("a framing error is final") {
  ReplyFramer framer;
  CHECK(framer.advance("x").error == FrameError::kBadType);
  CHECK(framer.advance("+OK\r\n").error == FrameError::kBadType);
  CHECK_FALSE(framer.advance("+OK\r\n").complete);
}

TEST_CASE("a payload of gigabytes passes in pieces") {
  ReplyFramer framer;
  const std::string megabyte(1 << 20, '\r');
  REQUIRE_FALSE(framer.advance("$4294967296\r\n").complete);
  for (int i = 0; i < 4096; ++i) REQUIRE(framer.advance(megabyte).bytes == megabyte.size());
  CHECK(framer.advance("\r\n").complete);
  CHECK(framer.frame_bytes() == 13 + 4294967296u + 2);
}
