// What a Python program says of its own failure: in the file that TORCHELASTIC_ERROR_FILE names, or at the end of its stderr.
//
// torch.distributed's @record writes there when an exception leaves the program. A program may write anything, so what is read is
// bounded and every part may be missing.
// Source: torch/distributed/elastic/multiprocessing/errors (PyTorch 1.13 to 2.x): {"message": {"message": "RuntimeError: ...",
// "extraInfo": {"py_callstack": "Traceback ...", "timestamp": "1700000000"}}}, or {"message": "...", "timestamp": ...}.
#ifndef MUSTER_LAUNCHER_AGENT_PROGRAM_ERROR_H_
#define MUSTER_LAUNCHER_AGENT_PROGRAM_ERROR_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace muster {

inline constexpr size_t kProgramErrorFileBytesMax = 1 << 20;  // a longer file is not read
inline constexpr size_t kProgramErrorBytesMax = 400;
inline constexpr size_t kProgramTraceBytesMax = 8 << 10;

struct ProgramError {
  std::string error;  // "RuntimeError: the loss is nan (train.py, line 41)", one line; the place only where the trace tells it
  std::string trace;  // as Python prints it, of a long one the end; may be empty
};

// Where a worker with this TMPDIR of the job's is to write.
std::string ProgramErrorFile(const std::string& temporary_folder, uint32_t rank);

// Empty: there is no such file, or nothing in it to be understood.
std::optional<ProgramError> ReadProgramError(const std::string& file);

// The same from the file's text. Pure.
std::optional<ProgramError> ParseProgramError(absl::string_view text);

// The same from the traceback with which Python ends a program that does not catch an exception; `text` is the last that it wrote to
// stderr. Each line may begin with what PyTorch puts there ("[rank0]: "). Empty: it does not end so. Pure.
std::optional<ProgramError> ParseTraceback(absl::string_view text);

// The last that each rank wrote to stderr, up to some KiB. Not thread-safe.
class ErrorTails {
 public:
  void Add(uint32_t rank, absl::string_view text);
  void Forget(uint32_t rank) { tails_.erase(rank); }
  absl::string_view Of(uint32_t rank) const;

 private:
  std::map<uint32_t, std::string> tails_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_PROGRAM_ERROR_H_
