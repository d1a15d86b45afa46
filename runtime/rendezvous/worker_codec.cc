#include "runtime/rendezvous/worker_codec.h"

#include <pb_decode.h>
#include <pb_encode.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

// The bytes of the character of UTF-8 that `text` begins with, 0 if it begins with none. Source: Unicode 15, table 3-7.
size_t CharacterBytes(absl::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(0);
  if (first > 0 && first < 0x80) return 1;
  const size_t bytes = first >= 0xc2 && first <= 0xdf   ? 2
                       : first >= 0xe0 && first <= 0xef ? 3
                       : first >= 0xf0 && first <= 0xf4 ? 4
                                                        : 0;
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool no_character = (first == 0xed && second > 0x9f) || (first == 0xf4 && second > 0x8f);  // surrogates; above U+10FFFF
  return overlong || no_character ? 0 : bytes;
}

}  // namespace

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
  size_t length = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t character = CharacterBytes(text.substr(i));
    const size_t bytes = std::max<size_t>(character, 1);
    if (length + bytes > field_bytes - 1) break;
    if (character == 0) {
      field[length] = '?';
    } else {
      std::memcpy(field + length, text.data() + i, bytes);
    }
    length += bytes;
    i += bytes;
  }
  field[length] = '\0';
}

}  // namespace muster
