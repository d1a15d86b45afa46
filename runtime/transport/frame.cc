#include "runtime/transport/frame.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"
#include "runtime/transport/wire.h"

namespace muster {

void StoreMeshFrame(const MeshFrame& frame, char* at) {
  StoreWire<uint16_t>(kMeshFrameMagic, at);
  StoreWire<uint16_t>(static_cast<uint16_t>(frame.type), at + 2);
  StoreWire<uint32_t>(frame.tag.segment, at + 4);
  StoreWire<uint64_t>(frame.generation, at + 8);
  StoreWire<uint64_t>(frame.tag.op_seq, at + 16);
  StoreWire<uint64_t>(frame.length, at + 24);
}

std::string MeshAbortBytes(uint64_t generation, const MeshFailure& failure) {
  const size_t text_bytes = std::min(failure.text.size(), kMeshTextMax);
  std::string bytes(kMeshHeaderBytes + kMeshAbortBytes, '\0');
  StoreMeshFrame({.type = MeshFrameType::kAbort, .generation = generation, .length = kMeshAbortBytes + text_bytes},
                 bytes.data());
  StoreWire<uint32_t>(static_cast<uint32_t>(failure.reason), bytes.data() + kMeshHeaderBytes);
  StoreWire<uint32_t>(failure.rank, bytes.data() + kMeshHeaderBytes + 4);
  StoreWire<uint32_t>(failure.detail, bytes.data() + kMeshHeaderBytes + 8);
  return bytes.append(failure.text, 0, text_bytes);
}

absl::StatusOr<MeshFrameParser::Event> MeshFrameParser::Next(absl::string_view* input) {
  while (!input->empty()) {
    if (skip_ > 0) {
      const uint64_t dropped = std::min<uint64_t>(skip_, input->size());
      input->remove_prefix(dropped);
      skip_ -= dropped;
      continue;
    }
    const size_t wanted = in_abort_ ? static_cast<size_t>(frame_.length) : kMeshHeaderBytes;
    const size_t taken = std::min(wanted - filled_, input->size());
    std::memcpy(bytes_ + filled_, input->data(), taken);
    input->remove_prefix(taken);
    filled_ += taken;
    if (filled_ < wanted) break;
    filled_ = 0;
    if (in_abort_) return TakeAbort();
    MUSTER_ASSIGN_OR_RETURN(const Event event, TakeHeader());
    if (event != Event::kMore) return event;
  }
  return Event::kMore;
}

// kMore where the frame is dropped or its body is ours to take.
absl::StatusOr<MeshFrameParser::Event> MeshFrameParser::TakeHeader() {
  const uint16_t type = LoadWire<uint16_t>(bytes_ + 2);
  frame_ = {static_cast<MeshFrameType>(type),
            LoadWire<uint64_t>(bytes_ + 8),
            {LoadWire<uint64_t>(bytes_ + 16), LoadWire<uint32_t>(bytes_ + 4)},
            LoadWire<uint64_t>(bytes_ + 24)};
  if (LoadWire<uint16_t>(bytes_) != kMeshFrameMagic || type < static_cast<uint16_t>(MeshFrameType::kOpen) ||
      type > static_cast<uint16_t>(MeshFrameType::kLeave)) {
    return absl::InvalidArgumentError("bytes that are no frame");
  }
  if (frame_.length > kMeshMessageMax) {
    return absl::InvalidArgumentError(absl::StrCat("a frame of ", frame_.length, " bytes"));
  }
  if (frame_.generation > generation_) {
    return absl::InvalidArgumentError(
        absl::StrCat("a frame of generation ", frame_.generation, ", this is generation ", generation_));
  }
  if (frame_.generation < generation_) {
    ++stale_frames_;
    skip_ = frame_.length;
    return Event::kMore;
  }
  switch (frame_.type) {
    case MeshFrameType::kData:
      return Event::kData;
    case MeshFrameType::kAbort:
      if (frame_.length < kMeshAbortBytes || frame_.length > kMeshAbortBytes + kMeshTextMax) break;
      in_abort_ = true;
      return Event::kMore;
    case MeshFrameType::kOpen:
    case MeshFrameType::kLeave:
      if (frame_.length != 0) break;
      return frame_.type == MeshFrameType::kOpen ? Event::kOpen : Event::kLeave;
  }
  return absl::InvalidArgumentError(absl::StrCat("a frame of type ", type, " with ", frame_.length, " bytes"));
}

MeshFrameParser::Event MeshFrameParser::TakeAbort() {
  in_abort_ = false;
  const uint32_t reason = LoadWire<uint32_t>(bytes_);
  abort_.reason = reason == 0 || reason > static_cast<uint32_t>(v1::AbortReason::kAgentLost)
                      ? v1::AbortReason::kAborted
                      : static_cast<v1::AbortReason>(reason);
  abort_.rank = LoadWire<uint32_t>(bytes_ + 4) & v1::kNoRank;
  abort_.detail = LoadWire<uint32_t>(bytes_ + 8);
  abort_.text.assign(bytes_ + kMeshAbortBytes, static_cast<size_t>(frame_.length) - kMeshAbortBytes);
  return Event::kAbort;
}

}  // namespace muster
