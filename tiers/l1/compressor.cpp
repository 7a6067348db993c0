#include "tiers/l1/compressor.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

namespace nearcached::tiers::l1 {
namespace {

constexpr std::size_t kHeldOutEvery = 8;  // one sample of so many judges the dictionary that the others made
constexpr std::size_t kSamplesMin = 16;
constexpr double kDecay = 1.25;

// A packed reply is at most so long, header included.
constexpr std::size_t worth(std::size_t plain) { return plain - plain / 8; }

// What one reply takes when it is packed, or kept plain because that is no worse.
std::size_t stored_bytes(const CompressionDictionary* dictionary, std::string_view plain, std::string& scratch) {
  scratch.resize(plain.size());
  const std::size_t packed =
      CompressorCodec::compress(Compression::kZstd, dictionary, plain, scratch.data(), scratch.size());
  return packed == 0 ? plain.size() : std::min(packed, plain.size());
}

void add(std::atomic<std::uint64_t>& counter, std::uint64_t n) { counter.fetch_add(n, std::memory_order_relaxed); }

}  // namespace

struct Compressor::Samples {
  std::string bytes;
  std::vector<std::size_t> sizes;
};

struct Compressor::Namespace {
  // Any thread.
  std::atomic<std::uint8_t> dictionary{0};  // the one that packs; 0: none
  std::atomic<bool> sampling{false};        // samples are wanted
  std::atomic<std::uint64_t> window_before{0};
  std::atomic<std::uint64_t> window_after{0};

  std::mutex mutex;  // of samples
  Samples samples;

  // maintain()'s.
  bool wants = true;
  std::uint32_t trainings = 0;
  double ratio_at_first = 0;  // 0: not yet known of this dictionary
};

std::size_t Compressor::bytes_wanted(const std::vector<CompressionPolicy>& policies, std::size_t l1_max_bytes) {
  const auto wants = [](const CompressionPolicy& policy) {
    return policy.algorithm == Compression::kZstd && policy.dictionary;
  };
  const auto count = static_cast<std::size_t>(std::count_if(policies.begin(), policies.end(), wants));
  return std::min(count * kNamespaceBytes, l1_max_bytes / kBudgetShare);
}

Compressor::Compressor(Options options) : options_(std::move(options)) {
  for (const CompressionPolicy& policy : options_.policies) {
    const bool dictionary = policy.algorithm == Compression::kZstd && policy.dictionary;
    namespaces_.push_back(dictionary ? std::make_unique<Namespace>() : nullptr);
  }
}

Compressor::~Compressor() {
  for (const auto& dictionary : dictionaries_) delete dictionary.load();
}

StoredReply Compressor::pack(std::uint32_t policy, std::string_view reply) {
  const CompressionPolicy& wanted = options_.policies[policy];
  if (wanted.algorithm == Compression::kNone || reply.size() < kDictionaryMinBytes) return reply;
  Namespace* const own = namespaces_[policy].get();
  std::uint8_t number = 0;
  if (own != nullptr && reply.size() <= kDictionaryMaxBytes) {
    if (own->sampling.load(std::memory_order_relaxed)) offer_sample(*own, reply);
    number = own->dictionary.load(std::memory_order_acquire);
  }
  if ((number == 0 && reply.size() < wanted.min_bytes) || reply.size() > PackedHeader::kPlainBytesMax) return reply;
  thread_local std::string packed;
  const std::size_t room = worth(reply.size());
  if (packed.size() < room) packed.resize(room);
  const CompressionDictionary* const dictionary = dictionaries_[number].load(std::memory_order_acquire);
  const std::size_t bytes = CompressorCodec::compress(wanted.algorithm, dictionary, reply,
                                                      packed.data() + PackedHeader::kBytes, room - PackedHeader::kBytes);
  if (bytes == 0) {
    add(kept_plain_, 1);
    if (number != 0) note(*own, reply.size(), reply.size());
    return reply;
  }
  PackedHeader{reply.front() == '$', wanted.algorithm, number, static_cast<std::uint32_t>(reply.size())}.write(
      packed.data());
  const std::size_t stored = PackedHeader::kBytes + bytes;
  add(values_, 1);
  add(bytes_before_, reply.size());
  add(bytes_after_, stored);
  if (number != 0) note(*own, reply.size(), stored);
  return {std::string_view(packed.data(), stored), true};
}

bool Compressor::unpack(const StoredReply& stored, char* out) const noexcept {
  if (!stored.packed) {
    std::copy(stored.bytes.begin(), stored.bytes.end(), out);
    return true;
  }
  const PackedHeader header = stored.header();
  const CompressionDictionary* const dictionary = dictionaries_[header.dictionary].load(std::memory_order_acquire);
  if (header.dictionary != 0 && dictionary == nullptr) return false;
  return CompressorCodec::decompress(header.algorithm, dictionary, stored.bytes.substr(PackedHeader::kBytes), out,
                                     header.plain_bytes);
}

bool Compressor::unpack(const StoredReply& stored, std::string& out) const {
  const std::size_t before = out.size();
  out.resize(before + stored.plain_size());
  if (unpack(stored, out.data() + before)) return true;
  out.resize(before);
  return false;
}

void Compressor::offer_sample(Namespace& own, std::string_view reply) {
  const std::unique_lock lock(own.mutex, std::try_to_lock);
  if (!lock.owns_lock() || !own.sampling.load(std::memory_order_relaxed)) return;
  Samples& samples = own.samples;
  const std::size_t taken = std::min({reply.size(), kSampleMaxBytes, kSamplesBytes - samples.bytes.size()});
  samples.bytes.append(reply.substr(0, taken));
  samples.sizes.push_back(taken);
  if (samples.bytes.size() == kSamplesBytes) own.sampling.store(false, std::memory_order_relaxed);
}

void Compressor::note(Namespace& own, std::size_t before, std::size_t after) noexcept {
  add(own.window_before, before);
  add(own.window_after, after);
}

void Compressor::maintain() {
  for (const auto& own : namespaces_) {
    if (own == nullptr) continue;
    judge(*own);
    open_samples(*own);
  }
  for (const auto& own : namespaces_) {
    if (own != nullptr && train(*own)) return;
  }
}

// Is what the dictionary packs still what it was trained for?
void Compressor::judge(Namespace& own) noexcept {
  const std::uint64_t before = own.window_before.load(std::memory_order_relaxed);
  if (before < kWindowBytes) return;
  const double ratio = static_cast<double>(own.window_after.load(std::memory_order_relaxed)) / static_cast<double>(before);
  own.window_before.store(0, std::memory_order_relaxed);
  own.window_after.store(0, std::memory_order_relaxed);
  if (own.ratio_at_first == 0) {
    own.ratio_at_first = ratio;
  } else if (ratio > own.ratio_at_first * kDecay) {
    own.wants = true;
  }
}

void Compressor::open_samples(Namespace& own) {
  if (!own.wants || own.trainings >= kVersionsMax || dictionary_count_ + 1 >= dictionaries_.size()) return;
  // Now for the samples and later, when these are gone, for the dictionary, which is smaller.
  if (held_.load(std::memory_order_relaxed) + kSamplesBytes > options_.bytes_max) return;
  own.wants = false;
  ++own.trainings;
  hold(kSamplesBytes);
  const std::lock_guard lock(own.mutex);
  own.samples.bytes.reserve(kSamplesBytes);
  own.sampling.store(true, std::memory_order_relaxed);
}

bool Compressor::train(Namespace& own) {
  Samples samples;
  {
    const std::lock_guard lock(own.mutex);
    if (own.samples.bytes.size() < kSamplesBytes) return false;
    samples = std::exchange(own.samples, {});
  }
  std::unique_ptr<CompressionDictionary> dictionary = make_dictionary(samples);
  samples = {};
  release(kSamplesBytes);
  if (dictionary == nullptr) {
    own.wants = true;  // of later replies, while it may
  } else if (held_.load(std::memory_order_relaxed) + dictionary->bytes() <= options_.bytes_max) {
    adopt(own, std::move(dictionary));
  }
  return true;
}

std::unique_ptr<CompressionDictionary> Compressor::make_dictionary(const Samples& samples) {
  if (samples.sizes.size() < kSamplesMin) return nullptr;
  std::string learnt;
  std::vector<std::size_t> sizes;
  std::vector<std::string_view> held_out;
  std::size_t at = 0;
  for (std::size_t i = 0; i < samples.sizes.size(); ++i) {
    const std::string_view sample = std::string_view(samples.bytes).substr(at, samples.sizes[i]);
    at += sample.size();
    if (i % kHeldOutEvery == 0) {
      held_out.push_back(sample);
      continue;
    }
    learnt += sample;
    sizes.push_back(sample.size());
  }
  const std::string text = CompressorCodec::train(learnt, sizes, kDictionaryTextBytes);
  if (text.empty()) return nullptr;
  std::unique_ptr<CompressionDictionary> dictionary = CompressionDictionary::create(text);
  if (dictionary == nullptr) return nullptr;
  std::size_t plain = 0;
  std::size_t with = 0;
  std::size_t without = 0;
  std::string scratch;
  for (const std::string_view sample : held_out) {
    plain += sample.size();
    with += stored_bytes(dictionary.get(), sample, scratch);
    without += stored_bytes(nullptr, sample, scratch);
  }
  return with <= worth(plain) && with <= without - without / 20 ? std::move(dictionary) : nullptr;
}

void Compressor::adopt(Namespace& own, std::unique_ptr<CompressionDictionary> dictionary) {
  hold(dictionary->bytes());
  const std::size_t number = ++dictionary_count_;
  dictionaries_[number].store(dictionary.release(), std::memory_order_release);
  own.dictionary.store(static_cast<std::uint8_t>(number), std::memory_order_release);
  own.window_before.store(0, std::memory_order_relaxed);
  own.window_after.store(0, std::memory_order_relaxed);
  own.ratio_at_first = 0;
  add(adopted_, 1);
}

void Compressor::hold(std::size_t bytes) noexcept {
  held_.store(held_.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
}

void Compressor::release(std::size_t bytes) noexcept {
  held_.store(held_.load(std::memory_order_relaxed) - bytes, std::memory_order_relaxed);
}

CompressionStats Compressor::stats() const noexcept {
  CompressionStats stats;
  stats.values = values_.load(std::memory_order_relaxed);
  stats.bytes_before = bytes_before_.load(std::memory_order_relaxed);
  stats.bytes_after = bytes_after_.load(std::memory_order_relaxed);
  stats.kept_plain = kept_plain_.load(std::memory_order_relaxed);
  stats.dictionaries = adopted_.load(std::memory_order_relaxed);
  stats.bytes = held_.load(std::memory_order_relaxed);
  return stats;
}

}  // namespace nearcached::tiers::l1
