// What becomes of a reply between the fill and the store, and between the store and the client.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tiers/l1/compressor_codec.hpp"
#include "tiers/l1/stored_reply.hpp"

namespace nearcached::tiers::l1 {

// What holds for the keys of one namespace.
struct CompressionPolicy {
  Compression algorithm = Compression::kNone;
  std::size_t min_bytes = 1024;  // smaller replies are kept plain, unless there is a dictionary; 64..1 MiB
  bool dictionary = false;       // with Zstandard: train one from what is installed
};

struct CompressionStats {
  std::uint64_t values = 0;        // packed
  std::uint64_t bytes_before = 0;  // of these, plain
  std::uint64_t bytes_after = 0;   // as they were stored
  std::uint64_t kept_plain = 0;    // tried, and did not shrink enough
  std::uint64_t dictionaries = 0;  // trained and taken into use since the start
  std::size_t bytes = 0;           // held for dictionaries and samples, part of l1.max_bytes
};

// Packs replies above a size, and unpacks them for those who read. A reply that does not shrink by an eighth is kept plain:
// its hits would pay for next to nothing.
//
//   install -> pack() -> store                        hit -> unpack(), straight into the client's buffer
//                | sample                                         ^ by the number in the reply's header
//                v                                                |
//     [ samples, 256 KB ] -- full: maintain() trains --> [ dictionaries 1..255 ]
//
// A namespace's dictionary is trained once, from the first replies of 64 bytes to 8 KB that are installed, seven eighths of
// them; it is taken into use only if it packs the rest better by a twentieth than no dictionary does, and to seven eighths
// of plain or less. From then on replies of 64 bytes to 32 KB are packed with it. When what is packed comes out a quarter
// larger than it did at first, the namespace's data have changed: it is trained anew, kVersionsMax times in the process'
// life. An older dictionary stays: entries name it. Why not freed with its last entry: the count of entries per dictionary
// would have to be kept wherever an entry goes, and four of 110 KB are little. What it is bad at: data that change for ever;
// the first replies may not be typical.
//
// The budget: dictionaries and samples together never hold more than options.bytes_max, which whoever owns the store takes
// off the store's part; a namespace for which there is no room waits, or has none. Outside of it: a thread's contexts
// (compressor_codec.hpp), and 10 MB while a dictionary is trained.
// Threading: maintain() from one thread, all else from any. pack() and unpack() take no lock that another thread holds for
// long: samples are offered with try_lock.
class Compressor {
 public:
  static constexpr std::size_t kDictionaryMinBytes = 64;          // smaller replies than this don't shrink
  static constexpr std::size_t kDictionaryMaxBytes = 32u << 10;   // larger ones do as well without
  static constexpr std::size_t kSampleMaxBytes = 8u << 10;        // of one reply
  static constexpr std::size_t kSamplesBytes = 256u << 10;        // of one namespace
  static constexpr std::size_t kDictionaryTextBytes = 16u << 10;  // of one dictionary
  static constexpr std::size_t kNamespaceBytes = 768u << 10;      // what one namespace may come to hold, about
  static constexpr std::size_t kBudgetShare = 8;                  // all of them at most this part of l1.max_bytes
  static constexpr std::uint32_t kVersionsMax = 4;                // trainings of one namespace, those in vain included
  static constexpr std::uint64_t kWindowBytes = std::uint64_t{4} << 20;  // plain bytes after which a dictionary is judged

  struct Options {
    std::vector<CompressionPolicy> policies;  // by the number that pack() is told
    std::size_t bytes_max = 0;                // of dictionaries and samples
  };
  // What to take off a store's budget: 0 where nothing wants a dictionary.
  [[nodiscard]] static std::size_t bytes_wanted(const std::vector<CompressionPolicy>& policies, std::size_t l1_max_bytes);

  explicit Compressor(Options options);
  ~Compressor();
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;

  // The reply as it is to be stored: itself, or packed in memory of the thread's that its next call takes. Not under a lock
  // that others wait for: a microsecond or two per KB.
  [[nodiscard]] StoredReply pack(std::uint32_t policy, std::string_view reply);
  // Writes plain_size() bytes. False: what is stored can't be read, and `out` holds nothing of worth.
  [[nodiscard]] bool unpack(const StoredReply& stored, char* out) const noexcept;
  // Appends. False: `out` is as it was.
  [[nodiscard]] bool unpack(const StoredReply& stored, std::string& out) const;

  // Background work: opens the taking of samples, trains at most one dictionary (some 50 ms).
  void maintain();
  [[nodiscard]] CompressionStats stats() const noexcept;

 private:
  struct Namespace;
  struct Samples;

  static void offer_sample(Namespace& own, std::string_view reply);
  static void note(Namespace& own, std::size_t before, std::size_t after) noexcept;
  static void judge(Namespace& own) noexcept;
  void open_samples(Namespace& own);
  bool train(Namespace& own);
  [[nodiscard]] static std::unique_ptr<CompressionDictionary> make_dictionary(const Samples& samples);
  void adopt(Namespace& own, std::unique_ptr<CompressionDictionary> dictionary);
  void hold(std::size_t bytes) noexcept;
  void release(std::size_t bytes) noexcept;

  const Options options_;
  std::vector<std::unique_ptr<Namespace>> namespaces_;  // by policy; null: no dictionaries

  // Published once each, by maintain(); freed with *this.
  std::array<std::atomic<const CompressionDictionary*>, 256> dictionaries_{};
  std::size_t dictionary_count_ = 0;  // maintain()'s
  std::atomic<std::size_t> held_{0};  // stored by maintain() alone

  std::atomic<std::uint64_t> values_{0};
  std::atomic<std::uint64_t> bytes_before_{0};
  std::atomic<std::uint64_t> bytes_after_{0};
  std::atomic<std::uint64_t> kept_plain_{0};
  std::atomic<std::uint64_t> adopted_{0};
};

}  // namespace nearcached::tiers::l1
