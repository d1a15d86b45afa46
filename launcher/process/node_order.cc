#include "launcher/process/node_order.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/planner/ring_order.h"
#include "launcher/topology/group_tree.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// What the agents have told, a set for each source.
std::vector<NetworkSource> SourcesOf(const std::vector<membership::NodeOffer>& offers, std::vector<std::string>* notes) {
  std::map<std::string, NetworkSource> by_source;
  for (const membership::NodeOffer& offer : offers) {
    if (!offer.network.note().empty()) notes->push_back(offer.network.note());
    if (offer.network.path().empty()) continue;
    NetworkSource& source = by_source[offer.network.source()];
    source.labels.source = offer.network.source();
    NodeLabels& labels = source.labels.nodes.emplace_back();
    labels.node = offer.host;
    for (const v1::NetworkLabel& label : offer.network.path()) labels.path.push_back({label.level(), label.value()});
  }
  std::vector<NetworkSource> sources;
  for (auto& [name, source] : by_source) sources.push_back(std::move(source));
  return sources;
}

class Orderer {
 public:
  explicit Orderer(std::vector<NetworkSource> sources) : sources_(std::move(sources)) {}

  membership::NodeOrder Order(const std::vector<membership::NodeOffer>& offers, const std::vector<uint32_t>& former) const {
    membership::NodeOrder order;
    std::vector<std::string> names;
    for (const membership::NodeOffer& offer : offers) {
      order.nodes.push_back(offer.node);
      names.push_back(offer.host);
    }
    if (names.size() < 2) return order;
    std::vector<NetworkSource> sources = sources_;
    for (NetworkSource& source : SourcesOf(offers, &order.notes)) sources.push_back(std::move(source));
    const auto network = KnowNetwork(sources, names);
    const absl::Status checked = network.ok() ? CheckCluster(network->cluster) : network.status();
    if (!checked.ok()) {  // such as two nodes of one name
      if (!network.ok() || network->has_labels()) {
        order.notes.push_back(absl::StrCat(checked.message(), "; ranks follow the numbers of nodes"));
      }
      return order;
    }
    order.notes.insert(order.notes.end(), network->notes.begin(), network->notes.end());
    if (!network->has_labels() && network->cluster.measurements.empty()) return order;
    Plan(network->cluster, network->source, offers, former, &order);
    return order;
  }

 private:
  static void Plan(const Cluster& cluster, const std::string& source, const std::vector<membership::NodeOffer>& offers,
                   const std::vector<uint32_t>& former, membership::NodeOrder* order) {
    const GroupTree tree(cluster);
    std::vector<int> by_number;
    for (size_t i = 0; i < offers.size(); ++i) by_number.push_back(static_cast<int>(i));
    std::sort(by_number.begin(), by_number.end(),
              [&](int a, int b) { return offers[static_cast<size_t>(a)].node < offers[static_cast<size_t>(b)].node; });
    std::vector<int> ring = PlanOrder(cluster, tree, 1).nodes;
    std::vector<int> kept = KeptRing(cluster, tree, offers, former);
    if (!kept.empty() && !IsBetter(tree, ring, kept)) ring = std::move(kept);
    order->nodes.clear();
    for (const int node : ring) order->nodes.push_back(offers[static_cast<size_t>(node)].node);
    order->plan = absl::StrCat("ranks follow the network (", source, ")");
    if (cluster.levels.empty()) return;
    const Crossings planned = CountCrossings(tree, ring).back(), unplanned = CountCrossings(tree, by_number).back();
    absl::StrAppend(&order->plan, ": the ring leaves a ", cluster.levels.back().name, " ", planned.crossings,
                    planned.crossings == 1 ? " time" : " times", ", by the numbers of nodes it would ", unplanned.crossings);
  }

  // The generation before without those that are gone, and newcomers where they belong; empty: there was none.
  static std::vector<int> KeptRing(const Cluster& cluster, const GroupTree& tree,
                                   const std::vector<membership::NodeOffer>& offers, const std::vector<uint32_t>& former) {
    std::map<uint32_t, int> place;
    for (size_t i = 0; i < offers.size(); ++i) place[offers[i].node] = static_cast<int>(i);
    std::vector<int> ring;
    for (const uint32_t node : former) {
      const auto here = place.find(node);
      if (here == place.end()) continue;
      ring.push_back(here->second);
      place.erase(here);
    }
    if (ring.empty()) return ring;
    for (const int node : tree.natural_order()) {
      const bool is_new = std::find(ring.begin(), ring.end(), node) == ring.end();
      if (is_new) ring = Extend(cluster, tree, std::move(ring), node);
    }
    return ring;
  }

  // Whether `one` leaves groups less often than `other`, the outermost level first.
  static bool IsBetter(const GroupTree& tree, const std::vector<int>& one, const std::vector<int>& other) {
    const std::vector<Crossings> a = CountCrossings(tree, one), b = CountCrossings(tree, other);
    for (size_t level = 0; level < a.size(); ++level) {
      if (a[level].crossings != b[level].crossings) return a[level].crossings < b[level].crossings;
    }
    return false;
  }

  const std::vector<NetworkSource> sources_;
};

}  // namespace

absl::StatusOr<std::vector<NetworkSource>> SourcesOfKnowledge(const v1::NetworkKnowledge& knowledge) {
  std::optional<LabelDialect> keys;
  if (!knowledge.label_keys().empty()) {
    MUSTER_ASSIGN_OR_RETURN(keys, ParseLabelKeys(knowledge.label_keys()));
  }
  std::vector<NetworkFile> files;
  for (const v1::NetworkFile& file : knowledge.files()) {
    MUSTER_ASSIGN_OR_RETURN(LabelFile parsed, ParseLabelFile(file.name()));
    files.push_back({std::move(parsed), file.text()});
  }
  return ReadNetworkFiles(files, keys ? &*keys : nullptr, "");
}

absl::StatusOr<membership::OrderFunction> MakeOrderFunction(const v1::NetworkKnowledge& knowledge) {
  if (knowledge.order_is_chosen()) return membership::OrderFunction();
  MUSTER_ASSIGN_OR_RETURN(std::vector<NetworkSource> sources, SourcesOfKnowledge(knowledge));
  auto orderer = std::make_shared<const Orderer>(std::move(sources));
  return [orderer](const std::vector<membership::NodeOffer>& offers, const std::vector<uint32_t>& former) {
    return orderer->Order(offers, former);
  };
}

}  // namespace muster
