#include "tiers/write_behind/posix_disk.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

namespace nearcached::tiers::write_behind {
namespace {

constexpr const char* kLockName = "lock";
constexpr mode_t kFileMode = 0600;  // values of clients
constexpr mode_t kDirectoryMode = 0700;
constexpr std::size_t kPiecesMax = 8;

std::error_code last_error() noexcept { return {errno, std::generic_category()}; }

template <typename Call>
auto retried(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

std::error_code status_of(int result) noexcept { return result < 0 ? last_error() : std::error_code{}; }

class PosixFile final : public DiskFile {
 public:
  explicit PosixFile(int descriptor) noexcept : descriptor_(descriptor) {}
  ~PosixFile() override { ::close(descriptor_); }
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;

  Written write(std::uint64_t offset, std::span<const std::string_view> pieces) override {
    std::array<iovec, kPiecesMax> vectors{};
    if (pieces.size() > vectors.size()) return {0, std::make_error_code(std::errc::argument_list_too_long)};
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      vectors[i] = {const_cast<char*>(pieces[i].data()), pieces[i].size()};
    }
    const auto count = static_cast<int>(pieces.size());
    const ssize_t result =
        retried([&] { return ::pwritev(descriptor_, vectors.data(), count, static_cast<off_t>(offset)); });
    if (result < 0) return {0, last_error()};
    return {static_cast<std::size_t>(result), {}};
  }
  std::error_code sync() override { return status_of(::fdatasync(descriptor_)); }

 private:
  const int descriptor_;
};

std::string holder_of(int lock) {
  std::array<char, 24> text{};
  const ssize_t bytes = ::pread(lock, text.data(), text.size(), 0);
  return bytes > 0 ? std::string(text.data(), static_cast<std::size_t>(bytes)) : "unknown";
}

bool take_lock(int lock, const std::string& path, std::string& error) {
  if (::flock(lock, LOCK_EX | LOCK_NB) == 0) {
    const std::string own = std::to_string(::getpid());
    // For whoever is refused: that it can't be written is no reason to refuse as well.
    const bool noted = ::ftruncate(lock, 0) == 0 && ::pwrite(lock, own.data(), own.size(), 0) > 0;
    static_cast<void>(noted);
    return true;
  }
  error = errno == EWOULDBLOCK ? path + ": in use by another process (" + holder_of(lock) + "); two can't share a log"
                               : path + "/" + kLockName + ": " + last_error().message();
  return false;
}

}  // namespace

std::unique_ptr<PosixDisk> PosixDisk::open(const std::string& directory, std::string& error) {
  if (::mkdir(directory.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
    error = directory + ": " + last_error().message();
    return nullptr;
  }
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) {
    error = directory + ": " + last_error().message();
    return nullptr;
  }
  const int lock = ::openat(descriptor, kLockName, O_RDWR | O_CREAT | O_CLOEXEC, kFileMode);
  if (lock < 0) error = directory + "/" + kLockName + ": " + last_error().message();
  if (lock < 0 || !take_lock(lock, directory, error)) {
    if (lock >= 0) ::close(lock);
    ::close(descriptor);
    return nullptr;
  }
  return std::unique_ptr<PosixDisk>(new PosixDisk(directory, descriptor, lock));
}

PosixDisk::PosixDisk(std::string path, int directory, int lock) noexcept
    : path_(std::move(path)), directory_(directory), lock_(lock) {}

PosixDisk::~PosixDisk() {
  ::close(lock_);
  ::close(directory_);
}

std::error_code PosixDisk::create(const std::string& name, std::uint64_t bytes, std::unique_ptr<DiskFile>& file) {
  const int descriptor = ::openat(directory_, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, kFileMode);
  if (descriptor < 0) return last_error();
  auto created = std::make_unique<PosixFile>(descriptor);
  const int result = retried([&] { return ::fallocate(descriptor, 0, 0, static_cast<off_t>(bytes)); });
  if (result < 0 && errno != EOPNOTSUPP) {
    const std::error_code error = last_error();
    ::unlinkat(directory_, name.c_str(), 0);
    return error;
  }
  file = std::move(created);
  return {};
}

std::error_code PosixDisk::sync_directory() { return status_of(::fsync(directory_)); }

std::error_code PosixDisk::list(std::vector<std::string>& names) {
  std::error_code error;
  names.clear();
  for (std::filesystem::directory_iterator entry(path_, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  return error;
}

std::error_code PosixDisk::read(const std::string& name, std::string& content) {
  const int descriptor = ::openat(directory_, name.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return last_error();
  const PosixFile closer(descriptor);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) return last_error();
  content.resize(static_cast<std::size_t>(status.st_size));
  std::size_t done = 0;
  while (done < content.size()) {
    const ssize_t result =
        retried([&] { return ::pread(descriptor, content.data() + done, content.size() - done, static_cast<off_t>(done)); });
    if (result < 0) return last_error();
    if (result == 0) break;
    done += static_cast<std::size_t>(result);
  }
  content.resize(done);
  return {};
}

std::error_code PosixDisk::truncate(const std::string& name, std::uint64_t bytes) {
  const int descriptor = ::openat(directory_, name.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return last_error();
  const PosixFile closer(descriptor);
  if (::ftruncate(descriptor, static_cast<off_t>(bytes)) != 0) return last_error();
  return status_of(::fsync(descriptor));
}

std::error_code PosixDisk::remove(const std::string& name) { return status_of(::unlinkat(directory_, name.c_str(), 0)); }

}  // namespace nearcached::tiers::write_behind
