#include "protocol/reply_tree.hpp"

#include <catch2/catch.hpp>
#include <random>
#include <string>

#include "protocol/reply_framer.hpp"

using namespace nearcached::protocol;
using namespace std::string_literals;

namespace {

// The tree as one line: type letter, text, children in brackets.
std::string drawn(const ReplyTree& tree, std::size_t at = 0) {
  static constexpr std::string_view kLetters = "+-:$_#,(!=*%~>|";
  const ReplyNode& node = tree.nodes()[at];
  std::string out(1, kLetters[static_cast<std::size_t>(node.type)]);
  out += node.text;
  if (node.children == 0) return out;
  out += '[';
  std::size_t child = at + 1;
  for (std::uint32_t i = 0; i < node.children; ++i, child += tree.nodes()[child].subtree) {
    if (i > 0) out += ' ';
    REQUIRE(tree.child(at, i) == child);
    out += drawn(tree, child);
  }
  REQUIRE(child == at + node.subtree);
  return out + ']';
}

std::string parsed(std::string_view frame) {
  ReplyTree tree;
  return tree.parse(frame) ? drawn(tree) : "(malformed)";
}

bool framed(std::string_view frame) {
  ReplyFramer framer;
  const ReplyFramer::Step step = framer.advance(frame);
  return step.complete && step.bytes == frame.size();
}

}  // namespace

TEST_CASE("every type has its node and its text") {
  CHECK(parsed("+OK\r\n") == "+OK");
  CHECK(parsed("-ERR x\r\n") == "-ERR x");
  CHECK(parsed(":-12\r\n") == ":-12");
  CHECK(parsed("$3\r\na\r\n\r\n") == "$a\r\n");
  CHECK(parsed("$-1\r\n") == "_");
  CHECK(parsed("*-1\r\n") == "_");
  CHECK(parsed("_\r\n") == "_");
  CHECK(parsed("#t\r\n") == "#t");
  CHECK(parsed(",-1.5e3\r\n") == ",-1.5e3");
  CHECK(parsed("(123456789012345678901234567890\r\n") == "(123456789012345678901234567890");
  CHECK(parsed("!5\r\nERR x\r\n") == "!ERR x");
  CHECK(parsed("=7\r\ntxt:abc\r\n") == "=abc");
  CHECK(parsed("=4\r\nmkd:\r\n") == "=");
  CHECK(parsed("*0\r\n") == "*");
  CHECK(parsed("~1\r\n:1\r\n") == "~[:1]");
  CHECK(parsed("%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n") == "%[+a :1 +b :2]");
  CHECK(parsed(">2\r\n+invalidate\r\n_\r\n") == ">[+invalidate _]");
}

TEST_CASE("nested aggregates are walked by their subtree") {
  CHECK(parsed("*3\r\n*2\r\n:1\r\n*1\r\n:2\r\n%1\r\n+k\r\n~2\r\n:3\r\n:4\r\n:5\r\n") == "*[*[:1 *[:2]] %[+k ~[:3 :4]] :5]");
}

TEST_CASE("raw is the element's own bytes") {
  ReplyTree tree;
  REQUIRE(tree.parse("|1\r\n+a\r\n+b\r\n*2\r\n$1\r\nx\r\n*1\r\n:1\r\n"));
  CHECK(tree.root().raw == "*2\r\n$1\r\nx\r\n*1\r\n:1\r\n");
  CHECK(tree.nodes()[1].raw == "$1\r\nx\r\n");
  CHECK(tree.nodes()[2].raw == "*1\r\n:1\r\n");
  CHECK(tree.nodes()[3].raw == ":1\r\n");
}

TEST_CASE("attributes are dropped wherever they stand") {
  CHECK(parsed("|1\r\n+a\r\n*1\r\n:1\r\n+OK\r\n") == "+OK");
  CHECK(parsed("*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n|0\r\n:2\r\n") == "*[:1 :2]");
  CHECK(parsed("|1\r\n|1\r\n+x\r\n+y\r\n+a\r\n+b\r\n:1\r\n") == ":1");
}

TEST_CASE("pushes inside an aggregate are taken out and kept aside") {
  ReplyTree tree;
  const std::string push = ">2\r\n+invalidate\r\n*1\r\n+k\r\n";
  const std::string two = "*2\r\n" + push + ":1\r\n>0\r\n:2\r\n";
  REQUIRE(tree.parse(two));
  CHECK(drawn(tree) == "*[:1 :2]");
  REQUIRE(tree.pushes().size() == 2);
  CHECK(tree.pushes()[0] == push);
  CHECK(tree.pushes()[1] == ">0\r\n");

  // Inside an attribute too; but a push within a push is part of the outer one.
  const std::string in_attribute = "|1\r\n" + push + "+a\r\n+b\r\n:1\r\n";
  REQUIRE(tree.parse(in_attribute));
  REQUIRE(tree.pushes().size() == 1);
  const std::string in_push = "*1\r\n>1\r\n" + push + "+x\r\n:1\r\n";
  REQUIRE(tree.parse(in_push));
  REQUIRE(tree.pushes().size() == 1);
  CHECK(tree.pushes()[0] == ">1\r\n" + push + "+x\r\n");

  REQUIRE(tree.parse(":1\r\n"));
  CHECK(tree.pushes().empty());
}

TEST_CASE("a reply without its nested pushes can be passed on") {
  ReplyTree tree;
  const std::string frame = "*2\r\n>1\r\n+a\r\n:1\r\n>1\r\n>0\r\n+b\r\n|1\r\n+t\r\n:9\r\n:2\r\n";
  REQUIRE(tree.parse(frame));
  std::string out;
  tree.append_without_pushes(out);
  CHECK(out == "*2\r\n:1\r\n|1\r\n+t\r\n:9\r\n:2\r\n");
  REQUIRE(tree.parse("+OK\r\n"));
  out.clear();
  tree.append_without_pushes(out);
  CHECK(out == "+OK\r\n");
}

TEST_CASE("only exactly one reply is a frame") {
  const std::string reply = "*2\r\n$3\r\nabc\r\n|1\r\n+a\r\n:1\r\n%1\r\n#t\r\n,1\r\n";
  ReplyTree tree;
  REQUIRE(tree.parse(reply));
  CHECK_FALSE(tree.parse(reply + "+"));
  CHECK_FALSE(tree.parse(reply + reply));
  for (std::size_t size = 0; size < reply.size(); ++size) REQUIRE_FALSE(tree.parse(std::string_view(reply).substr(0, size)));
  CHECK(tree.root().type == ReplyType::kNull);
  CHECK(tree.nodes().size() == 1);
  CHECK(tree.pushes().empty());
}

TEST_CASE("a frame that ended inside a push does not hide the pushes of the next one") {
  ReplyTree tree;
  REQUIRE_FALSE(tree.parse("*1\r\n>1\r\n"));
  const std::string frame = "*1\r\n>0\r\n:1\r\n";
  REQUIRE(tree.parse(frame));
  CHECK(tree.pushes().size() == 1);
}

TEST_CASE("the longest line the framer takes is a frame, one byte more is none") {
  const std::string longest = "+" + std::string(ReplyFramer::kLineBytesMax, 'x');
  ReplyTree tree;
  CHECK(tree.parse(longest + "\r\n"));
  CHECK_FALSE(tree.parse(longest + "x\r\n"));
}

TEST_CASE("a tree that was never parsed is a null") { CHECK(ReplyTree().root().type == ReplyType::kNull); }

TEST_CASE("an announced number of elements alone takes no nodes") {
  ReplyTree tree;
  CHECK_FALSE(tree.parse("*1073741824\r\n:1\r\n"));
  CHECK(tree.nodes().capacity() < 100);
}

TEST_CASE("nesting deeper than the framer follows is refused") {
  std::string deep;
  for (int i = 0; i < ReplyFramer::kDepthMax; ++i) deep += "*1\r\n";
  CHECK(parsed(deep + "*0\r\n") != "(malformed)");
  CHECK(parsed(deep + "*1\r\n:1\r\n") == "(malformed)");
  CHECK(parsed(deep + "|1\r\n:1\r\n:2\r\n:3\r\n") == "(malformed)");
  CHECK(parsed(deep + ">1\r\n:1\r\n:2\r\n") == "(malformed)");
}

TEST_CASE("integer() reads the text or gives what it was told") {
  ReplyTree tree;
  REQUIRE(tree.parse("*4\r\n:-7\r\n$2\r\n42\r\n$2\r\n4x\r\n$-1\r\n"));
  CHECK(tree.nodes()[1].integer() == -7);
  CHECK(tree.nodes()[2].integer() == 42);
  CHECK(tree.nodes()[3].integer(-3) == -3);
  CHECK(tree.nodes()[4].integer(5) == 5);
}

TEST_CASE("framer and tree accept the same bytes, mutated at random") {
  const std::string seed =
      "|1\r\n+a\r\n#t\r\n*6\r\n$3\r\nabc\r\n>1\r\n_\r\n:12\r\n%1\r\n!2\r\nno\r\n=5\r\ntxt:x\r\n~1\r\n,1.5\r\n(99\r\n*-1\r\n";
  REQUIRE(framed(seed));
  std::mt19937 random(7);
  const std::string bytes = "$*:+-_#,(!=~%>|0123456789\r\ntfx";
  ReplyTree tree;
  int accepted = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string text = seed;
    for (unsigned n = random() % 3 + 1; n > 0; --n) text[random() % text.size()] = bytes[random() % bytes.size()];
    const bool tree_accepts = tree.parse(text);
    if (tree_accepts != framed(text)) FAIL("they disagree about " << text);
    accepted += tree_accepts ? 1 : 0;
  }
  CHECK(accepted > 1000);
}
