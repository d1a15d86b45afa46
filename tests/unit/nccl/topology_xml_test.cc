#include "launcher/nccl/topology_xml.h"

#include <map>
#include <memory>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/seeds.h"
#include "tests/unit/nccl/made_nodes.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

// What NCCL 2.28 understands of XML, and no more (graph/xml.cc): blanks and newlines between elements, exactly one blank before each
// attribute, values in quotes, no declaration; texts of 254 characters, 16 attributes, 32 elements in one, 256 in all.
struct Element {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::vector<std::unique_ptr<Element>> inside;
};

class NcclReader {
 public:
  explicit NcclReader(const std::string& text) : text_(text) {}
  // Null where NCCL would refuse it; error() says why.
  std::unique_ptr<Element> Read() {
    auto root = std::make_unique<Element>();
    root->name = "root";
    if (!ReadInside(root.get())) return nullptr;
    if (root->inside.size() != 1 || root->inside[0]->name != "system") return Fail("not one system"), nullptr;
    return std::move(root->inside[0]);
  }
  const std::string& error() const { return error_; }

 private:
  bool Fail(const std::string& why) {
    if (error_.empty()) error_ = absl::StrCat(why, " at byte ", at_);
    return false;
  }
  char Next() { return at_ < text_.size() ? text_[at_++] : '\0'; }
  // Up to one of the characters that end a word, which is taken too.
  char Word(std::string* word) {
    for (char c = Next(); c != '\0'; c = Next()) {
      if (c == ' ' || c == '>' || c == '/' || c == '\n' || c == '=') return c;
      word->push_back(c);
    }
    return '\0';
  }
  bool ReadInside(Element* parent) {
    while (true) {
      while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
      if (at_ == text_.size()) return parent->name == "root" || Fail("unterminated " + parent->name);
      if (Next() != '<') return Fail("expecting <");
      auto element = std::make_unique<Element>();
      char end = Word(&element->name);
      if (element->name.empty() && end == '/') {
        std::string name;
        if (Word(&name) != '>' || name != parent->name) return Fail("mismatch of " + name);
        return true;
      }
      while (end == ' ') {
        std::string key, value;
        if (Word(&key) != '=' || key.empty() || Next() != '"') return Fail("no attribute");
        for (char c = Next(); c != '"'; c = Next()) {
          if (c == '\0') return Fail("end of file");
          value.push_back(c);
        }
        if (value.size() > 254 || !element->attributes.emplace(key, value).second) return Fail("attribute " + key);
        end = Next();
      }
      if (element->attributes.size() > 16 || ++elements_ > 256 || parent->inside.size() >= 32) return Fail("too much");
      Element* one = element.get();
      parent->inside.push_back(std::move(element));
      if (end == '/') {
        if (Next() != '>') return Fail("expected >");
      } else if (end != '>' || !ReadInside(one)) {
        return Fail("expected >");
      }
    }
  }

  const std::string& text_;
  size_t at_ = 0;
  int elements_ = 0;
  std::string error_;
};

// The way from the memory node down to each device: made-up switches.
void FindWays(const Element& element, std::vector<const Element*> way,
              std::map<std::string, std::vector<const Element*>>* ways) {
  if (element.name == "pci" && element.inside.empty()) {
    EXPECT_TRUE(ways->emplace(element.attributes.at("busid"), way).second) << "twice";
    return;
  }
  way.push_back(&element);
  for (const auto& one : element.inside) FindWays(*one, way, ways);
}

// The distance that NCCL will see: how many switches stand between two devices.
PciDistance SeenDistance(const std::vector<const Element*>& one, const std::vector<const Element*>& other) {
  size_t common = 0;
  while (common < std::min(one.size(), other.size()) && one[common] == other[common]) ++common;
  if (common <= 1) return PciDistance::kSys;  // the system alone
  if (common == 2) return PciDistance::kPhb;  // a memory node
  return one.size() == common && other.size() == common ? PciDistance::kPix : PciDistance::kPxb;
}

void Hide(NodeDevices* devices) {
  for (auto* list : {&devices->gpus, &devices->nics}) {
    for (NodeDevices::Device& one : *list) one.bridges = {"pci" + one.bus};
  }
}

TEST(TopologyXml, ABusIsHiddenWhereNothingSharesASwitch) {
  NcclNode node = RailNode("a", 2, 0);
  EXPECT_FALSE(BusIsHidden(node.devices));
  Hide(&node.devices);
  EXPECT_TRUE(BusIsHidden(node.devices));
  node.devices.gpus.clear();
  EXPECT_FALSE(BusIsHidden(node.devices));
}

TEST(TopologyXml, IsThis) {
  NcclNode node = RailNode("a", 2, 1);
  ListRails(&node, 2);
  node.listed.distances = {PciDistance::kPix, PciDistance::kSys, PciDistance::kSys, PciDistance::kPix};
  Hide(&node.devices);
  const TopologyXml xml = MakeTopologyXml(node.devices, node.listed);
  EXPECT_EQ(xml.why_not, "");
  EXPECT_EQ(xml.text,
            "<system version=\"1\">\n"
            "  <cpu numaid=\"0\">\n"
            "    <pci busid=\"ffff:00:01.0\" class=\"0x060400\" link_speed=\"32.0 GT/s PCIe\" link_width=\"16\">\n"
            "      <pci busid=\"0000:01:00.0\" class=\"0x030200\" link_speed=\"32.0 GT/s PCIe\" link_width=\"16\"/>\n"
            "      <pci busid=\"0000:02:00.0\" class=\"0x020000\" link_speed=\"32.0 GT/s PCIe\" link_width=\"16\"/>\n"
            "    </pci>\n"
            "  </cpu>\n"
            "  <cpu numaid=\"1\">\n"
            "    <pci busid=\"ffff:00:02.0\" class=\"0x060400\" link_speed=\"32.0 GT/s PCIe\" link_width=\"16\">\n"
            "      <pci busid=\"0001:11:00.0\" class=\"0x030200\" link_speed=\"32.0 GT/s PCIe\" link_width=\"16\"/>\n"
            "      <pci busid=\"0001:12:00.0\" class=\"0x020000\" link_speed=\"32.0 GT/s PCIe\" link_width=\"16\"/>\n"
            "    </pci>\n"
            "  </cpu>\n"
            "</system>\n");
}

TEST(TopologyXml, GpusAreFoundByTheirAddressesInAnySpelling) {
  NcclNode node = RailNode("a", 2, 0);
  node.listed.gpus = {{"00000001:11:00.0", -1}};
  node.listed.nics = {{node.devices.ports[1].interface}};
  node.listed.distances = {PciDistance::kPxb};
  const TopologyXml xml = MakeTopologyXml(node.devices, node.listed);
  NcclReader reader(xml.text);
  const auto system = reader.Read();
  ASSERT_NE(system, nullptr) << reader.error();
  std::map<std::string, std::vector<const Element*>> ways;
  FindWays(*system, {}, &ways);
  ASSERT_EQ(ways.size(), 2u);
  EXPECT_EQ(SeenDistance(ways.at("0001:11:00.0"), ways.at("0001:12:00.0")), PciDistance::kPxb);
}

TEST(TopologyXml, WhatDoesNotFitIsSaid) {
  NcclNode node = RailNode("a", 2, 0);
  EXPECT_EQ(MakeTopologyXml(node.devices, node.listed).text, "");
  EXPECT_EQ(MakeTopologyXml(node.devices, node.listed).why_not, "") << "nobody lists anything";
  ListRails(&node, 2);
  node.listed.distances.assign(4, PciDistance::kPix);
  for (Cluster::Nic& nic : node.listed.nics) nic.name = "other" + nic.name;
  EXPECT_EQ(MakeTopologyXml(node.devices, node.listed).why_not, "none of its NICs that are listed is there");
  node.listed.distances.assign(4, PciDistance::kNode);
  EXPECT_EQ(MakeTopologyXml(node.devices, node.listed).why_not, "") << "it says nothing of switches";
}

TEST(TopologyXml, WithoutSpeedsSwitchesGetThoseOfTheSlowestMachinesWithSwitches) {
  NcclNode node = RailNode("a", 1, 0);
  ListRails(&node, 1);
  node.listed.distances = {PciDistance::kPix};
  for (auto* device : {&node.devices.gpus[0], &node.devices.nics[0]}) device->link_speed.clear();
  const TopologyXml xml = MakeTopologyXml(node.devices, node.listed);
  EXPECT_THAT(xml.text, HasSubstr("link_speed=\"16.0 GT/s PCIe\" link_width=\"16\">"));
  EXPECT_THAT(xml.text, HasSubstr("<pci busid=\"0000:01:00.0\" class=\"0x030200\"/>")) << "NCCL looks itself";
}

// Random machines, whose distances are those of a tree, and a list of them: NCCL sees what is listed.
TEST(TopologyXml, ShowsNcclTheDistancesThatAreListed) {
  ForEachSeed(1000, "nccl_test", [](std::mt19937_64& random) {
    NodeDevices devices;
    Cluster::Node listed;
    struct Spot {
      int numa, upper, lower;
    };
    std::vector<Spot> gpu_spots, nic_spots;
    const int gpus = 1 + Below(random, 8), nics = 1 + Below(random, 10);
    const auto spot = [&random] {
      const int upper = Below(random, 4);
      return Spot{upper % 2, upper, 10 * upper + Below(random, 3)};
    };
    for (int i = 0; i < gpus; ++i) {
      gpu_spots.push_back(spot());
      devices.gpus.push_back({absl::StrFormat("0000:%02x:00.0", i), {"x"}, gpu_spots.back().numa, "16.0 GT/s PCIe", 16});
      listed.gpus.push_back({"", gpu_spots.back().numa});
    }
    for (int i = 0; i < nics; ++i) {
      nic_spots.push_back(spot());
      AddNic({absl::StrFormat("0001:%02x:00.0", i), {"y"}, nic_spots.back().numa, "", 0}, absl::StrCat("m", i), 100, &devices);
      listed.nics.push_back({absl::StrCat("m", i), nic_spots.back().numa});
    }
    bool near = false;
    for (const Spot& g : gpu_spots) {
      for (const Spot& n : nic_spots) {
        listed.distances.push_back(g.lower == n.lower   ? PciDistance::kPix
                                   : g.upper == n.upper ? PciDistance::kPxb
                                   : g.numa == n.numa   ? PciDistance::kPhb
                                                        : PciDistance::kSys);
        near = near || g.upper == n.upper;
      }
    }
    const TopologyXml xml = MakeTopologyXml(devices, listed);
    EXPECT_EQ(xml.why_not, "");
    EXPECT_EQ(xml.text.empty(), !near);
    if (xml.text.empty()) return;
    NcclReader reader(xml.text);
    const auto system = reader.Read();
    ASSERT_NE(system, nullptr) << reader.error() << "\n" << xml.text;
    EXPECT_EQ(system->attributes.at("version"), "1");
    std::map<std::string, std::vector<const Element*>> ways;
    FindWays(*system, {}, &ways);
    EXPECT_EQ(ways.size(), static_cast<size_t>(gpus + nics));
    std::set<std::string> buses;
    for (const auto& [bus, way] : ways) {
      for (size_t i = 2; i < way.size(); ++i) EXPECT_EQ(way[i]->attributes.at("class"), "0x060400");
    }
    for (int g = 0; g < gpus; ++g) {
      for (int n = 0; n < nics; ++n) {
        const PciDistance wanted = listed.distances[static_cast<size_t>(g * nics + n)];
        EXPECT_EQ(
            SeenDistance(ways.at(devices.gpus[static_cast<size_t>(g)].bus), ways.at(devices.nics[static_cast<size_t>(n)].bus)),
            wanted)
            << "GPU " << g << ", NIC " << n << "\n"
            << xml.text;
      }
    }
  });
}

}  // namespace
}  // namespace muster
