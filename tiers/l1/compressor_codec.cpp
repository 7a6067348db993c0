#include "tiers/l1/compressor_codec.hpp"

#include <lz4.h>
#include <zdict.h>
#include <zstd.h>

#include <utility>

namespace nearcached::tiers::l1 {
namespace {

constexpr int kLevel = 1;
constexpr int kLz4Acceleration = 1;

struct ZstdFree {
  void operator()(ZSTD_CCtx* context) const noexcept { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
  void operator()(ZSTD_CDict* dictionary) const noexcept { ZSTD_freeCDict(dictionary); }
  void operator()(ZSTD_DDict* dictionary) const noexcept { ZSTD_freeDDict(dictionary); }
};

// What both ends know need not be in the frame: no checksum, no name of the dictionary.
ZSTD_CCtx* packing_context() noexcept {
  thread_local const std::unique_ptr<ZSTD_CCtx, ZstdFree> context = [] {
    std::unique_ptr<ZSTD_CCtx, ZstdFree> made(ZSTD_createCCtx());
    if (made == nullptr) return made;
    ZSTD_CCtx_setParameter(made.get(), ZSTD_c_compressionLevel, kLevel);
    ZSTD_CCtx_setParameter(made.get(), ZSTD_c_checksumFlag, 0);
    ZSTD_CCtx_setParameter(made.get(), ZSTD_c_dictIDFlag, 0);
    return made;
  }();
  return context.get();
}

ZSTD_DCtx* unpacking_context() noexcept {
  thread_local const std::unique_ptr<ZSTD_DCtx, ZstdFree> context(ZSTD_createDCtx());
  return context.get();
}

std::size_t compress_lz4(std::string_view plain, char* out, std::size_t room) noexcept {
  thread_local const auto state = std::make_unique<char[]>(static_cast<std::size_t>(LZ4_sizeofState()));
  const int written = LZ4_compress_fast_extState(state.get(), plain.data(), out, static_cast<int>(plain.size()),
                                                 static_cast<int>(room), kLz4Acceleration);
  return written > 0 ? static_cast<std::size_t>(written) : 0;
}

}  // namespace

struct CompressionDictionary::Prepared {
  std::unique_ptr<ZSTD_CDict, ZstdFree> packing;
  std::unique_ptr<ZSTD_DDict, ZstdFree> unpacking;
};

CompressionDictionary::CompressionDictionary(std::unique_ptr<Prepared> prepared) : prepared_(std::move(prepared)) {}
CompressionDictionary::~CompressionDictionary() = default;

std::unique_ptr<CompressionDictionary> CompressionDictionary::create(std::string_view text) {
  auto prepared = std::make_unique<Prepared>();
  prepared->packing.reset(ZSTD_createCDict(text.data(), text.size(), kLevel));
  prepared->unpacking.reset(ZSTD_createDDict(text.data(), text.size()));
  if (prepared->packing == nullptr || prepared->unpacking == nullptr) return nullptr;
  return std::unique_ptr<CompressionDictionary>(new CompressionDictionary(std::move(prepared)));
}

std::size_t CompressionDictionary::bytes() const noexcept {
  return ZSTD_sizeof_CDict(prepared_->packing.get()) + ZSTD_sizeof_DDict(prepared_->unpacking.get());
}

std::size_t CompressorCodec::compress(Compression algorithm, const CompressionDictionary* dictionary, std::string_view plain,
                                      char* out, std::size_t room) noexcept {
  if (algorithm == Compression::kLz4) return compress_lz4(plain, out, room);
  ZSTD_CCtx* const context = packing_context();
  if (context == nullptr) return 0;
  const ZSTD_CDict* const prepared = dictionary == nullptr ? nullptr : dictionary->prepared_->packing.get();
  if (ZSTD_isError(ZSTD_CCtx_refCDict(context, prepared)) != 0) return 0;
  const std::size_t written = ZSTD_compress2(context, out, room, plain.data(), plain.size());
  if (ZSTD_isError(written) == 0) return written;
  // Otherwise it stands in the middle of what did not fit, and takes no dictionary any more.
  ZSTD_CCtx_reset(context, ZSTD_reset_session_only);
  return 0;
}

bool CompressorCodec::decompress(Compression algorithm, const CompressionDictionary* dictionary, std::string_view compressed,
                                 char* out, std::size_t plain_bytes) noexcept {
  if (algorithm == Compression::kLz4) {
    const int written =
        LZ4_decompress_safe(compressed.data(), out, static_cast<int>(compressed.size()), static_cast<int>(plain_bytes));
    return written >= 0 && static_cast<std::size_t>(written) == plain_bytes;
  }
  ZSTD_DCtx* const context = unpacking_context();
  if (algorithm != Compression::kZstd || context == nullptr) return false;
  const ZSTD_DDict* const prepared = dictionary == nullptr ? nullptr : dictionary->prepared_->unpacking.get();
  const std::size_t written =
      ZSTD_decompress_usingDDict(context, out, plain_bytes, compressed.data(), compressed.size(), prepared);
  return written == plain_bytes;  // which no error is
}

std::string CompressorCodec::train(std::string_view samples, std::span<const std::size_t> sizes, std::size_t bytes_max) {
  std::string text(bytes_max, '\0');
  const std::size_t trained =
      ZDICT_trainFromBuffer(text.data(), text.size(), samples.data(), sizes.data(), static_cast<unsigned>(sizes.size()));
  text.resize(ZDICT_isError(trained) != 0 ? 0 : trained);
  return text;
}

}  // namespace nearcached::tiers::l1
