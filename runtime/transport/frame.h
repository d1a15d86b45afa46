// What travels over an established connection of a mesh: frames of a 32-byte header and a body, numbers little-endian.
//
//    0  u16  magic       0x6d66
//    2  u16  type        1 open, 2 data, 3 abort, 4 leave
//    4  u32  segment     of data, else 0
//    8  u64  generation
//   16  u64  op_seq      of data, else 0
//   24  u64  length      of the body
//
// Body: of data the message; of abort {u32 reason, u32 rank, u32 detail, text of at most kMeshTextMax bytes}; of open and leave
// none. The side that took a connection opens it by `open`, which tells the other that its PROOF was good. A leave is
// Mesh::Abort(kPeerLeft).
#ifndef MUSTER_RUNTIME_TRANSPORT_FRAME_H_
#define MUSTER_RUNTIME_TRANSPORT_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/transport/mesh.h"

namespace muster {

inline constexpr uint16_t kMeshFrameMagic = 0x6d66;
inline constexpr size_t kMeshHeaderBytes = 32;
inline constexpr size_t kMeshAbortBytes = 12;  // before the text
inline constexpr size_t kMeshTextMax = 512;
// Far above what memory holds; far below where sums of lengths overflow.
inline constexpr uint64_t kMeshMessageMax = uint64_t{1} << 48;

enum class MeshFrameType : uint16_t { kOpen = 1, kData = 2, kAbort = 3, kLeave = 4 };

struct MeshFrame {
  MeshFrameType type = MeshFrameType::kData;
  uint64_t generation = 0;
  MeshTag tag;
  uint64_t length = 0;
};

// `at` has kMeshHeaderBytes.
void StoreMeshFrame(const MeshFrame& frame, char* at);

// Header and body of an abort; a text beyond kMeshTextMax is cut.
std::string MeshAbortBytes(uint64_t generation, const MeshFailure& failure);

// Puts frames together from bytes that may be anything. Pure; holds at most one header and one abort. Bodies of data are not
// its business: after kData the caller takes the next frame().length bytes out of the stream itself.
class MeshFrameParser {
 public:
  enum class Event { kMore, kOpen, kData, kAbort, kLeave };

  explicit MeshFrameParser(uint64_t generation) : generation_(generation) {}

  // Takes bytes from the front of `input` up to the next event, or all of them: kMore. A frame of an older generation is
  // dropped with its body and counted.
  // Errors: InvalidArgument (no frame, a newer generation, a length out of bounds). After one the parser is done.
  absl::StatusOr<Event> Next(absl::string_view* input);

  uint64_t generation() const { return generation_; }
  // Of the last kData.
  const MeshFrame& frame() const { return frame_; }
  // Of the last kAbort. A reason that this program does not know is kAborted.
  const MeshFailure& abort() const { return abort_; }
  uint64_t stale_frames() const { return stale_frames_; }
  // Nothing is outstanding: the stream may end here.
  bool at_boundary() const { return filled_ == 0 && skip_ == 0 && !in_abort_; }

 private:
  absl::StatusOr<Event> TakeHeader();
  Event TakeAbort();

  const uint64_t generation_;
  char bytes_[kMeshHeaderBytes > kMeshAbortBytes + kMeshTextMax ? kMeshHeaderBytes : kMeshAbortBytes + kMeshTextMax];
  size_t filled_ = 0;  // of bytes_: a header, then of an abort its body
  bool in_abort_ = false;
  uint64_t skip_ = 0;  // bytes of a dropped frame that are still to come
  MeshFrame frame_;
  MeshFailure abort_;
  uint64_t stale_frames_ = 0;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRANSPORT_FRAME_H_
