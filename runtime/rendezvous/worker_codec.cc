#include "runtime/rendezvous/worker_codec.h"

#include <pb_decode.h>
#include <pb_encode.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace muster {

muster_v1_WorkerMessage NewWorkerMessage(absl::string_view job_id, uint64_t generation) {
  muster_v1_WorkerMessage message = muster_v1_WorkerMessage_init_zero;
  std::memcpy(message.job_id, job_id.data(), std::min(job_id.size(), sizeof message.job_id));
  message.generation = generation;
  return message;
}

absl::StatusOr<std::string> EncodeWorkerMessage(const muster_v1_WorkerMessage& message) {
  std::string bytes(muster_v1_WorkerMessage_size, '\0');
  pb_ostream_t stream = pb_ostream_from_buffer(reinterpret_cast<pb_byte_t*>(bytes.data()), bytes.size());
  if (!pb_encode(&stream, muster_v1_WorkerMessage_fields, &message)) {
    return absl::InternalError(absl::StrCat("encode a message to the agent: ", PB_GET_ERROR(&stream)));
  }
  bytes.resize(stream.bytes_written);
  return bytes;
}

absl::StatusOr<muster_v1_AgentToWorker> DecodeAgentToWorker(absl::string_view bytes) {
  muster_v1_AgentToWorker message = muster_v1_AgentToWorker_init_zero;
  pb_istream_t stream = pb_istream_from_buffer(reinterpret_cast<const pb_byte_t*>(bytes.data()), bytes.size());
  if (!pb_decode(&stream, muster_v1_AgentToWorker_fields, &message)) {
    return absl::InvalidArgumentError(absl::StrCat("a message from the agent that is none: ", PB_GET_ERROR(&stream)));
  }
  return message;
}

void CopyText(absl::string_view text, char* field, size_t field_bytes) {
  size_t length = std::min(text.size(), field_bytes - 1);
  // A byte 10xxxxxx continues a character: cut before the character instead.
  while (length < text.size() && length > 0 && (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80) --length;
  std::memcpy(field, text.data(), length);
  field[length] = '\0';
}

}  // namespace muster
