#include "launcher/job/write_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "runtime/base/fd.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::Status WriteAll(int fd, const std::string& text, const std::string& path) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t bytes = ::write(fd, text.data() + done, text.size() - done);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return ErrnoToStatus(errno, absl::StrCat("write ", path));
    done += static_cast<size_t>(bytes);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteFile(const std::string& path, const std::string& text) {
  struct stat status;
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    UniqueFd device(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!device) return ErrnoToStatus(errno, absl::StrCat("open ", path));
    return WriteAll(device.get(), text, path);
  }
  const std::string temporary = absl::StrCat(path, ".", ::getpid(), ".new");
  UniqueFd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file) return ErrnoToStatus(errno, absl::StrCat("write ", path));
  absl::Status written = WriteAll(file.get(), text, path);
  if (written.ok() && ::rename(temporary.c_str(), path.c_str()) != 0)
    written = ErrnoToStatus(errno, absl::StrCat("write ", path));
  if (!written.ok()) ::unlink(temporary.c_str());
  return written;
}

}  // namespace muster
