#include "tiers/write_behind/posix_disk.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <string>

#include "tests/unit/config/temp_dir.hpp"

namespace nearcached::tiers::write_behind {
namespace {

using config::TempDir;

std::unique_ptr<PosixDisk> open_disk(const std::string& path) {
  std::string error;
  auto disk = PosixDisk::open(path, error);
  REQUIRE(error == "");
  REQUIRE(disk != nullptr);
  return disk;
}

std::string content_of(Disk& disk, const std::string& name) {
  std::string content;
  REQUIRE_FALSE(disk.read(name, content));
  return content;
}

TEST_CASE("a file has its size at once, and what is written stands where it was written", "[posix_disk]") {
  const TempDir temp;
  const auto disk = open_disk(temp.path("log"));
  std::unique_ptr<DiskFile> file;
  REQUIRE_FALSE(disk->create("a.wal", 4096, file));
  CHECK(content_of(*disk, "a.wal") == std::string(4096, '\0'));
  const std::string large(3000, 'x');
  const std::array<std::string_view, 4> pieces = {"head", "", large, "end"};
  const Written written = file->write(8, pieces);
  CHECK_FALSE(written.error);
  CHECK(written.bytes == 3007);
  CHECK_FALSE(file->sync());
  CHECK_FALSE(disk->sync_directory());
  const std::string content = content_of(*disk, "a.wal");
  CHECK(content.size() == 4096);
  CHECK(content.substr(8, 3007) == "head" + large + "end");

  REQUIRE_FALSE(disk->truncate("a.wal", 12));
  CHECK(content_of(*disk, "a.wal") == std::string(8, '\0') + "head");
  REQUIRE_FALSE(disk->remove("a.wal"));
  std::vector<std::string> names;
  REQUIRE_FALSE(disk->list(names));
  CHECK(names == std::vector<std::string>{"lock"});
}

TEST_CASE("errors are the system's", "[posix_disk]") {
  const TempDir temp;
  const auto disk = open_disk(temp.path("log"));
  std::unique_ptr<DiskFile> file;
  REQUIRE_FALSE(disk->create("a.wal", 4096, file));
  std::unique_ptr<DiskFile> again;
  CHECK(disk->create("a.wal", 4096, again) == std::errc::file_exists);
  std::string content;
  CHECK(disk->read("b.wal", content) == std::errc::no_such_file_or_directory);
  CHECK(disk->truncate("b.wal", 0) == std::errc::no_such_file_or_directory);
  CHECK(disk->remove("b.wal") == std::errc::no_such_file_or_directory);
}

TEST_CASE("a file that does not fit is an error, and is not left behind", "[posix_disk]") {
  const TempDir temp;
  const auto disk = open_disk(temp.path("log"));
  std::unique_ptr<DiskFile> file;
  CHECK(disk->create("a.wal", std::uint64_t{1} << 62, file));
  CHECK(file == nullptr);
  std::vector<std::string> names;
  REQUIRE_FALSE(disk->list(names));
  CHECK(names == std::vector<std::string>{"lock"});
}

TEST_CASE("files and directory are for the owner only: they hold values", "[posix_disk]") {
  const TempDir temp;
  const auto disk = open_disk(temp.path("log"));
  std::unique_ptr<DiskFile> file;
  REQUIRE_FALSE(disk->create("a.wal", 4096, file));
  struct stat status {};
  REQUIRE(::stat(temp.path("log/a.wal").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  REQUIRE(::stat(temp.path("log").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0700);
}

TEST_CASE("a second one on the same directory is refused, by name and process", "[posix_disk]") {
  const TempDir temp;
  const std::string path = temp.path("log");
  auto first = open_disk(path);
  std::string error;
  CHECK(PosixDisk::open(path, error) == nullptr);
  CHECK(error.find(path) == 0);
  CHECK(error.find(std::to_string(::getpid())) != std::string::npos);
  first.reset();
  open_disk(path);
}

TEST_CASE("a process that is killed gives its lock back", "[posix_disk]") {
  const TempDir temp;
  const std::string path = temp.path("log");
  std::array<int, 2> ready{};
  REQUIRE(::pipe(ready.data()) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::string error;
    const auto disk = PosixDisk::open(path, error);
    static_cast<void>(!::write(ready[1], disk != nullptr ? "y" : "n", 1));
    for (;;) ::pause();
  }
  char answer = 0;
  REQUIRE(::read(ready[0], &answer, 1) == 1);
  CHECK(answer == 'y');
  std::string error;
  CHECK(PosixDisk::open(path, error) == nullptr);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
  open_disk(path);
}

TEST_CASE("a directory that can't be made or opened is said by name", "[posix_disk]") {
  const TempDir temp;
  std::string error;
  CHECK(PosixDisk::open(temp.path("not/there"), error) == nullptr);
  CHECK(error.find(temp.path("not/there")) == 0);
  temp.write("file", "");
  CHECK(PosixDisk::open(temp.path("file"), error) == nullptr);
  CHECK(error.find(temp.path("file")) == 0);
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
