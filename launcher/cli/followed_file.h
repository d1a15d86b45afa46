// A file that somebody else appends to, read from its beginning on.
#ifndef MUSTER_LAUNCHER_CLI_FOLLOWED_FILE_H_
#define MUSTER_LAUNCHER_CLI_FOLLOWED_FILE_H_

#include <cstdint>
#include <string>

#include "runtime/base/fd.h"

namespace muster {

// A log that is turned over (launcher/job/log_keeper.h) is read on in its next part. Not thread-safe.
class FollowedFile {
 public:
  // The part before it, `path`.1, is read first if there is one.
  explicit FollowedFile(std::string path);

  // Leaves out all but the last `lines` of what is there; before the first Read.
  void SkipToLast(int64_t lines);

  // Whole lines that were not read before, at most 1 MiB at a time; empty: none for now. With `over` (nobody writes any more) a last
  // line without its end comes as well.
  std::string Read(bool over);

 private:
  bool OpenNext();

  const std::string path_;
  UniqueFd file_;
  bool older_read_ = false;
  std::string begun_;  // of a line whose end has not come
};

// Waits between two looks at a file. False once nobody reads our stdout any more.
bool WaitForMore();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_FOLLOWED_FILE_H_
