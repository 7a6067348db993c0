// Reads calls with their RESP3 replies from standard input, one per line: "<argument> ... = <reply>", all in hexadecimal,
// "." for nothing. Prints what a RESP2 client would get, in hexadecimal, or one of these words: "uncached" (not a call whose
// reply may be kept), "refused" (the reply is not one that can be converted), "unsound" (the shortcut for equal bytes
// contradicts the conversion, or a reply cut short is taken). With the argument "list": the names of all commands whose
// replies may be kept. cached_replies.py is its only user.
#include <algorithm>
#include <cstddef>
#include <iostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/command_table.hpp"
#include "protocol/reply_form.hpp"

namespace {

using namespace nearcached::protocol;

constexpr std::size_t kCutBytesMax = 600;  // longer replies are not tried at every length: quadratic

int nibble(char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; }

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(nibble(hex[i]) << 4 | nibble(hex[i + 1]));
  return bytes;
}

std::string to_hex(std::string_view bytes) {
  std::string hex;
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    hex += "0123456789abcdef"[value >> 4];
    hex += "0123456789abcdef"[value & 15];
  }
  return hex;
}

bool takes_a_cut_reply(const Command& command, std::span<const std::string_view> args, const std::string& reply) {
  for (std::size_t bytes = 0; bytes < reply.size() && reply.size() <= kCutBytesMax; ++bytes) {
    std::string out;
    const std::string cut(reply, 0, bytes);
    if (append_as_resp2(out, command, args, cut) || !out.empty()) return true;
  }
  return false;
}

std::string answer(const std::vector<std::string_view>& args, const std::string& reply) {
  const Command* const command = args.empty() ? nullptr : find_command(args[0]);
  if (command == nullptr || !cacheable(*command, args)) return "uncached";
  std::string out;
  const bool converted = append_as_resp2(out, *command, args, reply);
  if (same_in_resp2(reply) && (!converted || out != reply)) return "unsound";
  if (!converted) return out.empty() ? "refused" : "unsound";
  return takes_a_cut_reply(*command, args, reply) ? "unsound" : to_hex(out);
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const std::size_t end = std::min(line.find(' '), line.size());
    if (end > 0) words.push_back(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return words;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "list") {
    for (const Command& command : all_commands()) {
      if (command.caching != Caching::kNever) std::cout << command.name << '\n';
    }
    return 0;
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    std::vector<std::string> bytes;
    for (const std::string_view word : words_of(line)) bytes.push_back(word == "=" || word == "." ? "" : from_hex(word));
    if (bytes.size() < 2) return 1;
    const std::string reply = bytes.back();
    bytes.resize(bytes.size() - 2);  // the reply and the "=" before it
    std::cout << answer({bytes.begin(), bytes.end()}, reply) << '\n';
  }
  return 0;
}
