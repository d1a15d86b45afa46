// What a container says last: a file that its runtime reads when it has ended, as Kubernetes' terminationMessagePath.
// Source: https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
#ifndef MUSTER_LAUNCHER_PROCESS_LAST_WORDS_H_
#define MUSTER_LAUNCHER_PROCESS_LAST_WORDS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace muster {

// Kubernetes keeps so much of it.
inline constexpr size_t kLastWordsBytesMax = 4096;

// One JSON object on one line: exit_code sentence, and of class rank host job_id generation restarts committed_step checkpoint_step workers seconds
// those that are known. `report_json`: what ReportJson has made. A job that went well has a sentence too.
std::string JobLastWords(absl::string_view report_json);
// The same of an agent: exit_code sentence host. `sentence`: what it has said of its end; empty: nothing.
std::string AgentLastWords(int exit_code, absl::string_view sentence, absl::string_view host);

// Into the file as it is: it may be a mount, which nothing can be put in the place of. Errors: those of open and write, with the path.
absl::Status WriteLastWords(const std::string& path, const std::string& words);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_LAST_WORDS_H_
