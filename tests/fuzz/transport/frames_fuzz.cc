// Bytes of an established connection, from whoever can write into it. The first byte of an input says how the rest is cut.
//
//   - the parser finds the same events however the bytes are cut, and never takes more than there is;
//   - a stream writes nothing outside the buffers that were posted to it, and never says done of what did not come.
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/fd.h"
#include "runtime/transport/frame.h"
#include "runtime/transport/stream.h"

namespace muster {
namespace {

constexpr uint64_t kGeneration = 5;

void Promise(bool kept) {
  if (!kept) __builtin_trap();
}

std::string Events(absl::string_view bytes, size_t step) {
  MeshFrameParser parser(kGeneration);
  std::string events;
  uint64_t body = 0;
  while (!bytes.empty()) {
    absl::string_view part = bytes.substr(0, step);
    bytes.remove_prefix(part.size());
    while (!part.empty()) {
      const uint64_t taken = std::min<uint64_t>(body, part.size());
      part.remove_prefix(taken);
      body -= taken;
      if (part.empty()) break;
      const absl::string_view before = part;
      const auto event = parser.Next(&part);
      Promise(part.size() <= before.size() && part.data() + part.size() == before.data() + before.size());
      if (!event.ok()) return absl::StrCat(events, "error: ", event.status().message());
      Promise(part.size() < before.size());
      if (*event == MeshFrameParser::Event::kMore) Promise(part.empty());
      if (*event == MeshFrameParser::Event::kData) {
        body = parser.frame().length;
        Promise(body <= kMeshMessageMax && parser.frame().generation == kGeneration);
        absl::StrAppend(&events, "data ", parser.frame().tag.op_seq, " ", parser.frame().tag.segment, " ", body, "\n");
      } else if (*event == MeshFrameParser::Event::kAbort) {
        Promise(parser.abort().text.size() <= kMeshTextMax && parser.abort().reason != v1::AbortReason::kNone);
        absl::StrAppend(&events, "abort ", static_cast<int>(parser.abort().reason), " ", parser.abort().rank, " ",
                        parser.abort().text, "\n");
      } else if (*event != MeshFrameParser::Event::kMore) {
        absl::StrAppend(&events, static_cast<int>(*event), "\n");
      }
    }
  }
  return absl::StrCat(events, "stale ", parser.stale_frames(), parser.at_boundary() ? " boundary" : "");
}

struct Posted {
  Posted(int64_t bytes) : room(static_cast<size_t>(bytes) + 2, '\x5a'), bytes(bytes) {}
  std::string room;  // a byte before and a byte behind are not to be touched
  int64_t bytes;
  MeshTransfer transfer;
};

void FeedStream(absl::string_view bytes, size_t step) {
  int ends[2];
  Promise(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  UniqueFd writer(ends[1]);
  MeshStream stream(UniqueFd(ends[0]), kGeneration);
  std::deque<Posted> posted;
  const auto post = [&](uint64_t op_seq, uint32_t segment, int64_t length) {
    Posted& each = posted.emplace_back(length);
    stream.PostReceive({op_seq, segment}, each.room.data() + 1, length, &each.transfer);
  };
  post(1, 0, 5);
  post(1, 1, 0);
  post(1, 2, 6000);
  post(1, 1, 64);
  size_t sent = 0;
  while (sent < bytes.size()) {
    const absl::string_view part = bytes.substr(sent, step);
    const ssize_t taken = ::send(writer.get(), part.data(), part.size(), MSG_NOSIGNAL);
    if (taken > 0) sent += static_cast<size_t>(taken);
    stream.SetReadable();
    bool moved = false;
    while (stream.Move()) moved = true;
    if (taken <= 0 && !moved) break;  // parked: the rest waits in the socket
  }
  post(2, 0, 7);  // what was parked for want of it goes on
  while (stream.Move()) {
  }
  writer.Reset();
  stream.SetReadable();
  while (stream.Move()) {
  }
  int64_t moved = 0;
  for (const Posted& each : posted) {
    Promise(each.room.front() == '\x5a' && each.room.back() == '\x5a');
    Promise(each.transfer.moved >= 0 && each.transfer.moved <= each.bytes);
    if (each.transfer.done) Promise(each.transfer.moved == each.bytes);
    moved += each.transfer.moved;
  }
  Promise(moved <= static_cast<int64_t>(sent));
  Promise(stream.faulty() == stream.fault().has_value());
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t step = 1 + data[0];
  const absl::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string whole = muster::Events(bytes, std::max<size_t>(bytes.size(), 1));
  muster::Promise(muster::Events(bytes, step) == whole);
  muster::FeedStream(bytes, std::max(step, bytes.size() / 32 + 1));  // a system call for each part, so not too many
  return 0;
}
