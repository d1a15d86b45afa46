// One line of the PMI-1 protocol: "cmd=put kvsname=K key=A value=B". Pure, strict, bounded: it comes from users' programs.
// Source: the Flux project's RFC 13, "Simple Process Manager Interface v1", section "Wire Protocol".
#ifndef MUSTER_LAUNCHER_MPI_PMI_LINE_H_
#define MUSTER_LAUNCHER_MPI_PMI_LINE_H_

#include <cstddef>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

inline constexpr size_t kPmiLineBytesMax = 4096;  // with its end; MPICH's own bound is 1024
inline constexpr size_t kPmiNameBytesMax = 256;   // of a key-value space
inline constexpr size_t kPmiKeyBytesMax = 64;
inline constexpr size_t kPmiValueBytesMax = 1024;

struct PmiLine {
  std::string command;                        // of cmd=
  std::map<std::string, std::string> values;  // the other words

  // Empty where there is none.
  const std::string& value(const std::string& name) const;
};

// `line` without its end. Words are NAME=VALUE, parted by blanks; the first is the command; no name comes twice; printable ASCII.
// Errors: InvalidArgument, with what is wrong.
absl::StatusOr<PmiLine> ParsePmiLine(absl::string_view line);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_MPI_PMI_LINE_H_
