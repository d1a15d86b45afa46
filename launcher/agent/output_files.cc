#include "launcher/agent/output_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::Status MakeFolder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return ErrnoToStatus(error.value(), folder);
  if (!std::filesystem::is_directory(folder, error)) return ErrnoToStatus(ENOTDIR, folder);
  return absl::OkStatus();
}

}  // namespace

absl::Status OutputFiles::Check() const {
  const std::string folder = pattern_.CommonFolder(place_);
  MUSTER_RETURN_IF_ERROR(MakeFolder(folder));
  UniqueFd file(::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
  if (file) return absl::OkStatus();
  std::string name = absl::StrCat(folder, "/muster-XXXXXX");  // a file system without O_TMPFILE
  file.Reset(::mkostemp(name.data(), O_CLOEXEC));
  if (!file) return ErrnoToStatus(errno, absl::StrCat("a file in ", folder));
  ::unlink(name.c_str());
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<OutputFiles::File>> OutputFiles::OpenFile(const std::string& path, bool is_first) {
  MUSTER_RETURN_IF_ERROR(MakeFolder(std::filesystem::path(path).parent_path()));
  const bool replace = is_first && !ours_.contains(path);
  auto file = std::make_shared<File>();
  file->path = path;
  // O_NONBLOCK: a FIFO that nobody reads must not keep us.
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (replace ? O_TRUNC : 0);
  file->fd.Reset(::open(path.c_str(), flags, 0666));
  struct stat kind;
  if (!file->fd || ::fstat(file->fd.get(), &kind) != 0) return ErrnoToStatus(errno, path);
  if (!S_ISREG(kind.st_mode)) return absl::FailedPreconditionError(absl::StrCat(path, ": there is something that is no file"));
  ::fcntl(file->fd.get(), F_SETFL, O_APPEND);
  ours_.insert(path);
  return file;
}

absl::Status OutputFiles::Open(uint32_t rank, uint64_t generation, bool is_first) {
  OutputPattern::Place place = place_;
  place.rank = rank;
  place.generation = generation;
  std::shared_ptr<File> files[2];
  for (const OutputStream which : {OutputStream::kStdout, OutputStream::kStderr}) {
    place.which = which;
    const std::string path = pattern_.Path(place);
    std::shared_ptr<File>& file = files[static_cast<size_t>(which)];
    // Where both streams, or several ranks, share a file they share how it is doing.
    if (files[0] != nullptr && files[0]->path == path) file = files[0];
    for (const auto& [of, known] : files_) {
      if (file == nullptr && of.first != rank && known->path == path) file = known;
    }
    if (file != nullptr) continue;
    MUSTER_ASSIGN_OR_RETURN(file, OpenFile(path, is_first));
  }
  files_[{rank, OutputStream::kStdout}] = std::move(files[0]);
  files_[{rank, OutputStream::kStderr}] = std::move(files[1]);
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OutputFiles::WorkerEnd(uint32_t rank, OutputStream which) const {
  const File& file = *files_.at({rank, which});
  UniqueFd copy(::fcntl(file.fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return ErrnoToStatus(errno, file.path);
  return copy;
}

absl::Status OutputFiles::Write(uint32_t rank, OutputStream which, absl::string_view text) {
  const auto found = files_.find({rank, which});
  if (found == files_.end()) return absl::InternalError(absl::StrCat("rank ", rank, " has no output file"));
  File& file = *found->second;
  while (!text.empty()) {
    const ssize_t bytes = ::write(file.fd.get(), text.data(), text.size());
    if (bytes > 0) text.remove_prefix(static_cast<size_t>(bytes));
    if (bytes >= 0 || errno == EINTR) continue;
    const int error = errno;
    if (std::exchange(file.failing, true)) return absl::OkStatus();
    return ErrnoToStatus(error, file.path);
  }
  file.failing = false;
  return absl::OkStatus();
}

}  // namespace muster
