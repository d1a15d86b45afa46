#include "launcher/process/nccl_decision.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "launcher/labels/network.h"
#include "launcher/nccl/nccl_settings.h"
#include "launcher/process/node_order.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

void FillDevice(const NodeDevices::Device& device, v1::PciDevice* message) {
  message->set_bus(device.bus);
  for (const std::string& bridge : device.bridges) message->add_bridges(bridge);
  message->set_numa(device.numa);
  message->set_link_speed(device.link_speed);
  message->set_link_width(static_cast<uint32_t>(device.link_width));
}

NodeDevices::Device DeviceOf(const v1::PciDevice& message) {
  return {message.bus(),
          {message.bridges().begin(), message.bridges().end()},
          message.numa(),
          message.link_speed(),
          static_cast<int>(message.link_width())};
}

membership::NcclDecision Decide(const std::vector<NetworkSource>& sources, const std::vector<membership::NodeOffer>& offers) {
  NcclKnowledge known;
  std::vector<std::string> names;
  for (const membership::NodeOffer& offer : offers) names.push_back(offer.host);
  Cluster listed;
  for (const NetworkSource& source : sources) {
    if (!source.is_cluster) continue;
    listed = SubsetOf(source.cluster, names);
    known.source = source.labels.source;
    break;
  }
  known.rail_optimised =
      std::any_of(listed.levels.begin(), listed.levels.end(), [](const Cluster::Level& level) { return level.per_rail; });
  for (size_t i = 0; i < offers.size(); ++i) {
    known.nodes.push_back({offers[i].host, offers[i].address, FromMessage(offers[i].devices),
                           i < listed.nodes.size() ? listed.nodes[i] : Cluster::Node()});
  }
  NcclSettings settings = DecideNccl(known);
  membership::NcclDecision decision;
  decision.reasons = NcclReasons(known, settings);
  decision.notes = std::move(settings.notes);
  for (NcclSettings::Node& node : settings.nodes) {
    v1::NcclEnvironment& environment = decision.environments.emplace_back();
    for (NcclVariable& one : node.variables) {
      v1::NcclVariable* variable = environment.add_variables();
      variable->set_name(std::move(one.name));
      variable->set_value(std::move(one.value));
    }
    environment.set_topology_xml(std::move(node.topology_xml));
  }
  return decision;
}

}  // namespace

absl::StatusOr<membership::NcclFunction> MakeNcclFunction(const v1::NetworkKnowledge& knowledge) {
  MUSTER_ASSIGN_OR_RETURN(std::vector<NetworkSource> read, SourcesOfKnowledge(knowledge));
  auto sources = std::make_shared<const std::vector<NetworkSource>>(std::move(read));
  return [sources](const std::vector<membership::NodeOffer>& offers) { return Decide(*sources, offers); };
}

v1::NodeDevices ToMessage(const NodeDevices& devices) {
  v1::NodeDevices message;
  for (const NodeDevices::Device& gpu : devices.gpus) FillDevice(gpu, message.add_gpus());
  for (const NodeDevices::Device& nic : devices.nics) FillDevice(nic, message.add_nics());
  for (const NodeDevices::Port& port : devices.ports) {
    v1::RdmaPort* one = message.add_ports();
    one->set_device(port.device);
    one->set_number(static_cast<uint32_t>(port.number));
    one->set_nic(static_cast<uint32_t>(port.nic));
    one->set_active(port.active);
    one->set_ethernet(port.ethernet);
    one->set_mbits_per_second(static_cast<uint64_t>(port.bytes_per_second * 8 / 1e6));
    one->set_interface(port.interface);
    one->set_unusable(port.unusable);
  }
  message.set_has_topology_file(devices.has_topology_file);
  return message;
}

NodeDevices FromMessage(const v1::NodeDevices& message) {
  NodeDevices devices;
  for (const v1::PciDevice& gpu : message.gpus()) devices.gpus.push_back(DeviceOf(gpu));
  for (const v1::PciDevice& nic : message.nics()) devices.nics.push_back(DeviceOf(nic));
  for (const v1::RdmaPort& port : message.ports()) {
    if (port.nic() >= devices.nics.size()) continue;
    devices.ports.push_back({port.device(), static_cast<int>(port.number()), static_cast<int>(port.nic()), port.active(),
                             port.ethernet(), static_cast<double>(port.mbits_per_second()) * 1e6 / 8, port.interface(),
                             port.unusable()});
  }
  devices.has_topology_file = message.has_topology_file();
  return devices;
}

}  // namespace muster
