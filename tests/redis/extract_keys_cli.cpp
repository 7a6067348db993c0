// Reads calls from standard input, one per line, and prints what protocol::extract_keys says of each: the positions of the
// keys, "none" (the call has no keys), "unclear", or "unknown" (no such command). Arguments are in hexadecimal, separated by
// blanks, "." for an empty one, so that any bytes can be asked about. commands_against_server.py is its only user.
#include <cstdint>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/command_table.hpp"

namespace {

using nearcached::protocol::Command;

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

const Command* command_of(const std::vector<std::string_view>& args) {
  const Command* const command = args.empty() ? nullptr : nearcached::protocol::find_command(args[0]);
  if (command == nullptr || command->subcommands.empty() || args.size() < 2) return command;
  const Command* const subcommand = nearcached::protocol::find_subcommand(*command, args[1]);
  return subcommand != nullptr ? subcommand : command;
}

std::string answer(const std::vector<std::string_view>& args) {
  const Command* const command = command_of(args);
  if (command == nullptr) return "unknown";
  std::vector<std::uint32_t> positions;
  if (!nearcached::protocol::extract_keys(*command, args, positions)) return "unclear";
  if (positions.empty()) return "none";
  std::string text;
  for (const std::uint32_t position : positions) text += (text.empty() ? "" : " ") + std::to_string(position);
  return text;
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::vector<std::string> bytes;
    std::istringstream words(line);
    for (std::string word; words >> word;) bytes.push_back(word == "." ? "" : from_hex(word));
    std::cout << answer({bytes.begin(), bytes.end()}) << '\n';
  }
  return 0;
}
