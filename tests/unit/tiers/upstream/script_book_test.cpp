#include "tiers/upstream/script_book.hpp"

#include <catch2/catch.hpp>

namespace nearcached::tiers::upstream {

TEST_CASE("scripts are loaded again in the order in which they came, each once") {
  ScriptBook book;
  CHECK(book.commands().empty());
  book.remember("return 1");
  book.remember("return 2");
  book.remember("return 1");
  const auto commands = book.commands();
  REQUIRE(commands.size() == 2);
  CHECK(*commands[0] == "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$8\r\nreturn 2\r\n");
  CHECK(*commands[1] == "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$8\r\nreturn 1\r\n");
  book.clear();
  CHECK(book.commands().empty());
  CHECK(commands[0]->size() > 8);  // whoever was given them may still send them
}

TEST_CASE("a book of scripts is bounded in number and in bytes, the oldest goes") {
  ScriptBook book;
  for (std::size_t i = 0; i < ScriptBook::kScriptsMax + 3; ++i) book.remember("return " + std::to_string(i));
  CHECK(book.commands().size() == ScriptBook::kScriptsMax);
  CHECK(book.commands().front()->find("return 3\r\n") != std::string::npos);
  book.remember(std::string(ScriptBook::kBytesMax, 'x'));
  CHECK(book.commands().size() == 1);
  book.remember(std::string(ScriptBook::kBytesMax + 1, 'y'));
  CHECK(book.commands().size() == 1);
  book.remember("return 0");
  CHECK(book.commands().size() == 1);
  CHECK(book.commands().front()->ends_with("return 0\r\n"));
}

}  // namespace nearcached::tiers::upstream
