// muster topo: the network between nodes, and what is planned for it.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/cli/console.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/subcommand.h"
#include "launcher/cli/topo_check.h"
#include "launcher/cli/topo_plan.h"
#include "launcher/cli/topo_show.h"
#include "runtime/base/nearest_name.h"

namespace muster {
namespace {

constexpr char kUsage[] = R"(usage: muster topo show [options]
       muster topo plan --cluster FILE [options]
       muster topo check --cluster FILE (LOG... | --job JOB) [options]

show says where nodes stand in the network, as files, Slurm or Kubernetes say it, or as a job of one rank
on each node measures it. Without any of these it shows this machine: memory nodes, GPUs, network
interfaces, how far they are from each other, and what is wrong with a GPU. docs/discovery.md has more.

plan puts the nodes of a cluster in the order in which rings of collectives go round them, so that as few
steps as possible cross switches, and numbers the ranks along it. It shows what the order crosses and how
fast it is, beside the order of host names (which torchrun uses) and random orders; docs/topology.md says
how.

check reads the rings that NCCL has made, from the output of a job that ran with NCCL_DEBUG=INFO and
NCCL_DEBUG_SUBSYS=INIT,GRAPH, and says whether they go round the nodes as planned. It ends with 1 if a ring
crosses more than the plan.

examples
  muster topo show                                         this machine
  muster topo show --labels-from /etc/slurm/topology.conf  where nodes stand, as a file says it
  kubectl get nodes -o json | muster topo show --labels-from -
  salloc -N4 muster topo show --svg network.svg            the nodes of an allocation, and a drawing
  muster topo show --measure -H node-a,node-b,node-c       measure between them
  muster topo show --measure -H node-a,node-b --json > cluster.json
                                                           a cluster file with what was measured
  muster topo plan --cluster cluster.yaml                  the order, and what it gains
  muster topo plan --cluster cluster.yaml --rank 17        why rank 17 is where it is
  muster topo plan --cluster cluster.yaml --svg ring.svg   a drawing
  muster topo plan --cluster cluster.yaml --json | jq .crossings.leaf
  muster topo plan --cluster cluster.yaml -H node[01-16] --write-hostfile hosts
  muster run --hostfile hosts ./train                      ranks in the planned order
  muster topo check --cluster cluster.yaml --job 4e52      NCCL's rings of a job beside the plan
)";

struct Verb {
  const char* name;
  int (*run)(const std::vector<std::string>& arguments);
  std::vector<FlagDescription> (*flags)();
};

const Verb kVerbs[] = {
    {"show", TopoShow, TopoShowFlags},
    {"plan", TopoPlan, TopoPlanFlags},
    {"check", TopoCheck, TopoCheckFlags},
};

}  // namespace

HelpPage TopoPage() {
  HelpPage page = {.before = kUsage, .flags = {}, .operand = Operand::kNone, .words = {}};
  for (const Verb& verb : kVerbs) {
    page.words.push_back(verb.name);
    for (FlagDescription& flag : verb.flags()) {
      flag.heading = absl::StrCat("options of ", verb.name);
      page.flags.push_back(std::move(flag));
    }
  }
  return page;
}

int TopoCommand(const std::vector<std::string>& arguments) {
  std::vector<std::string> names;
  for (const Verb& verb : kVerbs) {
    names.push_back(verb.name);
    if (!arguments.empty() && arguments[0] == verb.name) return verb.run({arguments.begin() + 1, arguments.end()});
  }
  const std::string word = arguments.empty() ? "" : arguments[0];
  if (word == "-h" || word == "--help" || word == "-help") return Print(HelpText(TopoPage()));
  if (word.empty()) return UsageError("muster topo needs a word: show, plan or check; see `muster topo --help`");
  const std::string nearest = NearestName(word, names);
  return UsageError(
      absl::StrCat("muster topo knows no ", word,
                   nearest.empty() ? "; see `muster topo --help`" : absl::StrCat("; did you mean: muster topo ", nearest)));
}

}  // namespace muster
