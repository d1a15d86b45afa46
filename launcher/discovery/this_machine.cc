#include "launcher/discovery/this_machine.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launcher/labels/labels.h"
#include "launcher/placement/topology.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMetadataFilesMax = 1024;
constexpr std::streamsize kMetadataBytesMax = 1 << 20;

std::string ReadText(const fs::path& path, std::streamsize bytes_max) {
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<size_t>(bytes_max), '\0');
  file.read(text.data(), bytes_max);
  text.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  return text;
}

// Mbit/s of an Ethernet interface; "400 Gb/sec (4X NDR)" of an InfiniBand port.
double SpeedOf(const std::string& sysfs, const std::string& name) {
  if (name.empty() || absl::StrContains(name, '/')) return 0;
  double number = 0;
  if (absl::SimpleAtod(ReadText(fs::path(sysfs) / "class/net" / name / "speed", 64), &number) && number > 0)
    return number * 1e6 / 8;
  const std::string rate = ReadText(fs::path(sysfs) / "class/infiniband" / name / "ports/1/rate", 64);
  const std::vector<std::string> words = absl::StrSplit(rate, ' ');
  if (words.size() >= 2 && absl::StartsWith(words[1], "Gb/sec") && absl::SimpleAtod(words[0], &number) && number > 0)
    return number * 1e9 / 8;
  return 0;
}

std::vector<GivenDevice> ReadGiven(const std::string& folder, std::vector<std::string>* notes) {
  std::vector<GivenDevice> devices;
  std::error_code error;
  std::vector<fs::path> files;
  for (fs::recursive_directory_iterator entry(folder, fs::directory_options::skip_permission_denied, error), end;
       !error && entry != end; entry.increment(error)) {
    if (!absl::EndsWith(entry->path().filename().string(), "-metadata.json") || files.size() >= kMetadataFilesMax) continue;
    files.push_back(entry->path());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    notes->push_back(
        absl::StrCat(folder, " cannot be read: ", error.message(), "; devices are as the machine itself shows them"));
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    auto given = ReadDeviceMetadata(file.string(), ReadText(file, kMetadataBytesMax));
    if (!given.ok()) {
      notes->emplace_back(given.status().message());
      continue;
    }
    std::move(given->devices.begin(), given->devices.end(), std::back_inserter(devices));
    std::move(given->notes.begin(), given->notes.end(), std::back_inserter(*notes));
  }
  return devices;
}

}  // namespace

absl::StatusOr<MachineView> DiscoverThisMachine(const std::string& name, const MachineSources& sources) {
  MUSTER_ASSIGN_OR_RETURN(const Topology machine, Topology::Discover());
  std::vector<std::string> notes;
  const std::vector<GivenDevice> given = ReadGiven(sources.device_metadata, &notes);
  MachineView view = DescribeMachine(name, machine, ReadNvml(sources.nvml_library), given,
                                     [&sources](const std::string& nic) { return SpeedOf(sources.sysfs, nic); });
  view.notes.insert(view.notes.end(), notes.begin(), notes.end());
  return view;
}

}  // namespace muster
