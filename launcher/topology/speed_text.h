// The speed of a link as people write it.
#ifndef MUSTER_LAUNCHER_TOPOLOGY_SPEED_TEXT_H_
#define MUSTER_LAUNCHER_TOPOLOGY_SPEED_TEXT_H_

#include <string>

namespace muster {

// "400 Gbit/s": links are sold by bits.
std::string BitsText(double bytes_per_second);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_TOPOLOGY_SPEED_TEXT_H_
