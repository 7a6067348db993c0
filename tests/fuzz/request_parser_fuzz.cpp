// However a stream of requests is cut, the parser sees the same commands and the same error; and a command that it calls
// fit to be sent on as it came is, byte for byte, what the writer would have written.
// Input: one byte that chooses the pieces and the limits, then the stream.
#include <string>
#include <vector>

#include "protocol/request_parser.hpp"
#include "protocol/writer.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace {

using nearcached::fuzz::ExactCopy;
using nearcached::fuzz::Pieces;
using nearcached::fuzz::require;
using namespace nearcached::protocol;

struct Seen {
  std::vector<std::vector<std::string>> commands;
  std::vector<bool> reencode;
  std::string error;
  std::size_t consumed = 0;
  bool mid_command = false;
  bool operator==(const Seen&) const = default;
};

class Connection {
 public:
  explicit Connection(const RequestLimits& limits) : limits_(limits) {}

  void receive(std::string_view piece) {
    pending_.append(piece);
    while (seen_.error.empty()) {
      const ExactCopy input(pending_);
      const ParseStatus status = parser_.parse(input.view(), limits_);
      seen_.mid_command = parser_.mid_command();
      if (status == ParseStatus::kNeedMore) return check_need(input.view());
      if (status == ParseStatus::kError) {
        seen_.error = parser_.error();
        return;
      }
      require(parser_.consumed() > 0 && parser_.consumed() <= input.view().size(), "a command takes some of the input");
      if (status == ParseStatus::kComplete) record(input.view());
      seen_.consumed += parser_.consumed();
      pending_.erase(0, parser_.consumed());
    }
  }

  [[nodiscard]] const Seen& seen() const { return seen_; }

 private:
  void check_need(std::string_view input) const {
    require(parser_.bytes_wanted() == 0 || parser_.bytes_wanted() > input.size(), "what is wanted is not there yet");
  }

  void record(std::string_view input) {
    require(!parser_.args().empty(), "a complete command has arguments");
    seen_.commands.emplace_back(parser_.args().begin(), parser_.args().end());
    seen_.reencode.push_back(parser_.is_inline());
    std::string written;
    append_command(written, parser_.args());
    require(parser_.is_inline() || written == input.substr(0, parser_.consumed()), "its bytes are canonical");
  }

  RequestLimits limits_;
  RequestParser parser_;
  std::string pending_;
  Seen seen_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  RequestLimits limits;
  if (data[0] >= 128) limits = {.args_max = 12, .bulk_bytes_max = 100, .inline_bytes_max = 40};
  Connection whole(limits);
  whole.receive(stream);
  Connection cut(limits);
  for (Pieces pieces(stream, data[0]); !pieces.empty();) cut.receive(pieces.next());
  require(whole.seen() == cut.seen(), "the cut changes nothing");
  return 0;
}
