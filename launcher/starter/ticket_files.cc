#include "launcher/starter/ticket_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "runtime/base/fd.h"
#include "runtime/base/status.h"

namespace muster {

absl::Status TicketFiles::Start(uint32_t node, const std::string& coordinator, const std::string& ticket) {
  const std::string path = absl::StrCat(folder_, "/node-", node, ".ticket"), temporary = path + ".new";
  ::unlink(temporary.c_str());
  UniqueFd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  const std::string line = ticket + "\n";
  if (!file || ::write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()) ||
      ::rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("write the ticket ", path));
  }
  say_(absl::StrCat("on node ", node, " run: muster agent --coordinator ", coordinator, " --ticket-file ", path));
  return absl::OkStatus();
}

}  // namespace muster
