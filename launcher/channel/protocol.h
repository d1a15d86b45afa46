// What both ends of an agent's stream agree on.
#ifndef MUSTER_LAUNCHER_CHANNEL_PROTOCOL_H_
#define MUSTER_LAUNCHER_CHANNEL_PROTOCOL_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace muster {

// Raised when an older end could not follow. An end of another version is refused, by Enroll and by Hello.
inline constexpr uint32_t kChannelProtocolVersion = 1;

// One message, in bytes. The coordinator's are larger: the table of all members.
inline constexpr size_t kAgentMessageBytesMax = size_t{4} << 20;
inline constexpr size_t kCoordinatorMessageBytesMax = size_t{64} << 20;
// The frame around a message.
inline constexpr size_t kFrameBytesMax = 1024;

// What was taken in is acknowledged with the next message the other way, after so many, or so much later.
inline constexpr uint64_t kAcknowledgeAfterMessages = 32;
inline constexpr absl::Duration kAcknowledgeWithin = absl::Milliseconds(10);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_PROTOCOL_H_
