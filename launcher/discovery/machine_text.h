// A machine's view as text and JSON fields.
#ifndef MUSTER_LAUNCHER_DISCOVERY_MACHINE_TEXT_H_
#define MUSTER_LAUNCHER_DISCOVERY_MACHINE_TEXT_H_

#include <string>

#include "launcher/discovery/machine_view.h"

namespace muster {

// The machine, its memory nodes with the devices at each, and two tables in the words of `nvidia-smi topo -m`: how far each GPU is from
// each NIC, and how many NVLinks join each two GPUs. A GPU's faults stand behind it.
std::string MachineText(const MachineView& view);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_DISCOVERY_MACHINE_TEXT_H_
