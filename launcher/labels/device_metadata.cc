#include "launcher/labels/device_metadata.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "launcher/hosts/host_name.h"
#include "launcher/labels/json_text.h"
#include "launcher/topology/cluster.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using Json = nlohmann::json;

std::string TextOf(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// "0000:3b:00.0": a domain of four digits and more, bus, device, function.
bool IsBusId(const std::string& text) {
  constexpr size_t kTail = sizeof("3b:00.0") - 1;
  if (text.size() < kTail + 5) return false;
  const std::string domain = text.substr(0, text.size() - kTail), tail = text.substr(text.size() - kTail);
  const auto is_hex = [](char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); };
  return domain.size() <= 9 && domain.back() == ':' && std::all_of(domain.begin(), domain.end() - 1, is_hex) &&
         is_hex(tail[0]) && is_hex(tail[1]) && tail[2] == ':' && is_hex(tail[3]) && is_hex(tail[4]) && tail[5] == '.' &&
         tail[6] >= '0' && tail[6] <= '7';
}

class MetadataReader {
 public:
  MetadataReader(const std::string& file, GivenDevices* given) : file_(file), given_(given) {}

  void ReadDevice(const std::string& request, const Json& object) {
    GivenDevice device;
    device.driver = TextOf(object, "driver");
    device.name = TextOf(object, "name");
    device.request = request;
    device.place = file_;
    const auto attributes = object.is_object() ? object.find("attributes") : object.end();
    if (object.is_object() && attributes != object.end() && attributes->is_object()) {
      device.pci_bus_id = absl::AsciiStrToLower(Word(device, *attributes, {"resource.kubernetes.io/pciBusID", "pciBusID"}));
      if (!device.pci_bus_id.empty() && !IsBusId(device.pci_bus_id)) {
        Note(device, absl::StrCat("its bus address \"", Shown(device.pci_bus_id), "\" is none such as 0000:3b:00.0"));
        device.pci_bus_id.clear();
      }
      device.pcie_root = Word(device, *attributes, {"resource.kubernetes.io/pcieRoot", "pcieRoot"});
      device.uuid = Word(device, *attributes, {"uuid"});
      device.numa_node = Number(device, *attributes, {"resource.kubernetes.io/numaNode", "numaNode", "numa"});
    }
    given_->devices.push_back(std::move(device));
  }

 private:
  void Note(const GivenDevice& device, absl::string_view what) {
    given_->notes.push_back(absl::StrCat(file_, ": device ", Shown(device.name), ": ", what, "; it counts as not said"));
  }

  static const Json* Find(const Json& attributes, const std::vector<const char*>& names) {
    for (const char* name : names) {
      if (const auto found = attributes.find(name); found != attributes.end()) return &*found;
    }
    return nullptr;
  }

  std::string Word(const GivenDevice& device, const Json& attributes, const std::vector<const char*>& names) {
    const Json* value = Find(attributes, names);
    if (value == nullptr) return "";
    std::string word = TextOf(*value, "string");
    if (word.empty()) Note(device, absl::StrCat("the attribute ", names[0], " is no {\"string\": WORD}"));
    return word;
  }

  std::optional<int> Number(const GivenDevice& device, const Json& attributes, const std::vector<const char*>& names) {
    const Json* value = Find(attributes, names);
    if (value == nullptr) return {};
    const auto number = value->is_object() ? value->find("int") : value->end();
    if (!value->is_object() || number == value->end() || !number->is_number_integer()) {
      Note(device, absl::StrCat("the attribute ", names[0], " is no {\"int\": NUMBER}"));
      return {};
    }
    const auto read = number->get<int64_t>();
    if (read < 0 || read > 1024) {
      Note(device, absl::StrCat("its memory node is ", read));
      return {};
    }
    return static_cast<int>(read);
  }

  const std::string& file_;
  GivenDevices* const given_;
};

}  // namespace

absl::StatusOr<GivenDevices> ReadDeviceMetadata(const std::string& file, absl::string_view text) {
  static const auto& known_versions = *new std::set<std::string>{
      "metadata.resource.k8s.io/v1alpha1", "metadata.resource.k8s.io/v1beta1", "metadata.resource.k8s.io/v1"};
  MUSTER_ASSIGN_OR_RETURN(const std::vector<Json> objects, ParseJsonStream(file, text));
  GivenDevices given;
  if (objects.empty()) {
    given.notes.push_back(
        absl::StrCat(file, " is still empty: its driver fills it later; its devices are as the node itself shows them"));
    return given;
  }
  for (const Json& object : objects) {
    if (TextOf(object, "kind") != "DeviceMetadata" || !known_versions.contains(TextOf(object, "apiVersion"))) continue;
    const auto requests = object.find("requests");
    if (requests == object.end() || !requests->is_array()) continue;
    MetadataReader reader(file, &given);
    for (const Json& request : *requests) {
      const auto devices = request.is_object() ? request.find("devices") : request.end();
      if (!request.is_object() || devices == request.end() || !devices->is_array()) continue;
      for (const Json& device : *devices) {
        if (given.devices.size() >= kNodeDevicesMax) {
          return absl::InvalidArgumentError(absl::StrCat(file, ": has more than ", kNodeDevicesMax, " devices"));
        }
        reader.ReadDevice(TextOf(request, "name"), device);
      }
    }
    return given;
  }
  const std::string version = TextOf(objects[0], "apiVersion");
  return absl::InvalidArgumentError(absl::StrCat(file, ":1:1: holds no DeviceMetadata of a version that is known (",
                                                 version.empty() ? "it names none" : absl::StrCat("it is ", Shown(version)),
                                                 "); its devices are as the node itself shows them"));
}

}  // namespace muster
