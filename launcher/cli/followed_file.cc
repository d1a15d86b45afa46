#include "launcher/cli/followed_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "launcher/job/log_keeper.h"

namespace muster {
namespace {

constexpr size_t kReadBytes = 1 << 20;

UniqueFd Open(const std::string& path) { return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)); }

// True if `path` is another file than the one that is open.
bool Replaced(int fd, const std::string& path) {
  struct stat open, named;
  return ::fstat(fd, &open) == 0 && ::stat(path.c_str(), &named) == 0 &&
         (open.st_dev != named.st_dev || open.st_ino != named.st_ino);
}

// Where the last `*lines` lines begin, if the file has so many; else `*lines` is what it lacks. `at_end`: nothing follows it, so that
// its very last byte only ends its last line.
std::optional<int64_t> BeginOfLast(int fd, bool at_end, int64_t* lines) {
  constexpr int64_t kBlockBytes = 64 << 10;
  struct stat status;
  if (::fstat(fd, &status) != 0) return std::nullopt;
  std::string block(kBlockBytes, '\0');
  for (int64_t end = status.st_size; end > 0;) {
    const int64_t begin = std::max<int64_t>(0, end - kBlockBytes);
    const ssize_t bytes = ::pread(fd, block.data(), static_cast<size_t>(end - begin), begin);
    if (bytes != end - begin) return std::nullopt;
    for (int64_t i = end - begin - 1; i >= 0; --i) {
      if (block[static_cast<size_t>(i)] != '\n' || (at_end && begin + i == status.st_size - 1)) continue;
      if (--*lines == 0) return begin + i + 1;
    }
    end = begin;
  }
  return std::nullopt;
}

}  // namespace

void FollowedFile::SkipToLast(int64_t lines) {
  UniqueFd older = Open(LogKeeper::OlderPath(path_)), newest = Open(path_);
  if (lines == 0 && newest) {
    ::lseek(newest.get(), 0, SEEK_END);
    file_ = std::move(newest);
    older_read_ = true;
    return;
  }
  for (UniqueFd* part : {&newest, &older}) {
    const auto begin = *part ? BeginOfLast(part->get(), part == &newest || !newest, &lines) : std::nullopt;
    if (!begin) continue;
    ::lseek(part->get(), *begin, SEEK_SET);
    file_ = std::move(*part);
    older_read_ = true;
    return;
  }
}

FollowedFile::FollowedFile(std::string path) : path_(std::move(path)) {}

// Between the writer's rename and its next open there is no file of that name; then there is nothing more for now.
bool FollowedFile::OpenNext() {
  if (!file_ && !older_read_) {
    older_read_ = true;
    file_ = Open(LogKeeper::OlderPath(path_));
    if (file_) return true;
  }
  if (file_ && !Replaced(file_.get(), path_)) return false;
  UniqueFd next = Open(path_);
  if (!next) return false;
  file_ = std::move(next);
  return true;
}

std::string FollowedFile::Read(bool over) {
  std::string text(kReadBytes, '\0');
  while (true) {
    if (!file_ && !OpenNext()) return "";
    // Replaced is asked before the read that finds the end: what the old part got until then is read.
    const bool replaced = Replaced(file_.get(), path_);
    const ssize_t bytes = ::read(file_.get(), text.data(), text.size());
    if (bytes > 0) {
      text.resize(static_cast<size_t>(bytes));
      break;
    }
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes == 0 && replaced && OpenNext()) continue;
    return over ? std::exchange(begun_, std::string()) : std::string();
  }
  const size_t last = text.rfind('\n');
  const size_t whole = last == std::string::npos ? 0 : last + 1;
  std::string lines = whole > 0 ? std::exchange(begun_, std::string()) + text.substr(0, whole) : std::string();
  begun_ += text.substr(whole);
  // A line of a megabyte is passed on in pieces.
  if (lines.empty() && begun_.size() >= kReadBytes) return std::exchange(begun_, std::string());
  return lines.empty() ? Read(over) : lines;
}

bool WaitForMore() {
  // A pipe that has lost its reader is in error at once; poll(2). Of what is no pipe nothing is asked.
  pollfd reader = {STDOUT_FILENO, 0, 0};
  return ::poll(&reader, 1, 50) == 0 || (reader.revents & POLLERR) == 0;
}

}  // namespace muster
