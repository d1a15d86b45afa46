// NCCL's description of a node's PCI bus, for nodes that hide it. Pure.
//
// In many virtual machines every device hangs on a bridge of its own, and NCCL cannot see which GPU shares a switch with which NIC.
// A file (NCCL_TOPO_FILE) makes up the switches. It names only buses: what GPUs and NICs there are, their NVLinks and ports NCCL
// finds itself, and it drops branches of the file without any. Its parser knows no XML declaration, no tab, and one blank between attributes.
// Source: NCCL 2.28, graph/xml.cc (elements system, cpu, pci and their attributes), graph/topo.cc (link speeds, classes).
#ifndef MUSTER_LAUNCHER_NCCL_TOPOLOGY_XML_H_
#define MUSTER_LAUNCHER_NCCL_TOPOLOGY_XML_H_

#include <string>

#include "launcher/nccl/node_devices.h"
#include "launcher/topology/cluster.h"

namespace muster {

// Whether no GPU and NIC of the node seem to share a switch. False where it has no GPU or no NIC.
bool BusIsHidden(const NodeDevices& devices);

struct TopologyXml {
  std::string text;     // empty: none can be made
  std::string why_not;  // a sentence where `listed` says something of distances that does not fit the node; else empty
};

// From the distances that `listed` names: devices at PIX share a switch, those at PXB one above. GPUs are listed in the order of the
// bus, or by their addresses; NICs by a name that the node knows, the device's or the interface's. Those that are not listed are left out.
TopologyXml MakeTopologyXml(const NodeDevices& devices, const Cluster::Node& listed);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_NCCL_TOPOLOGY_XML_H_
