// worker.proto for the worker's side: nanopb's static structures to and from bytes.
#ifndef MUSTER_RUNTIME_RENDEZVOUS_WORKER_CODEC_H_
#define MUSTER_RUNTIME_RENDEZVOUS_WORKER_CODEC_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "muster/v1/worker.nano.h"

namespace muster {

// An empty message of job `job_id` (16 bytes) and generation `generation`.
muster_v1_WorkerMessage NewWorkerMessage(absl::string_view job_id, uint64_t generation);

// Errors: Internal (a field does not fit its bound: our bug).
absl::StatusOr<std::string> EncodeWorkerMessage(const muster_v1_WorkerMessage& message);

// Errors: InvalidArgument (not an AgentToWorker, or a field beyond its bound).
absl::StatusOr<muster_v1_AgentToWorker> DecodeAgentToWorker(absl::string_view bytes);

// Copies `text` into a nanopb string field, cut to fit between two characters. What is not UTF-8 becomes question marks: the agent's
// protobuf would take none of the message.
void CopyText(absl::string_view text, char* field, size_t field_bytes);

}  // namespace muster

#endif  // MUSTER_RUNTIME_RENDEZVOUS_WORKER_CODEC_H_
