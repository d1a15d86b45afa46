// muster k8s: a job as manifests for Kubernetes, and what is wrong with manifests.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "launcher/cli/console.h"
#include "launcher/cli/flags.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/k8s_lint.h"
#include "launcher/cli/run_job_file.h"
#include "launcher/cli/run_options.h"
#include "launcher/cli/subcommand.h"
#include "launcher/cli/topology_files.h"
#include "launcher/job/write_file.h"
#include "launcher/kubernetes/render.h"
#include "launcher/labels/network.h"
#include "launcher/process/exit_codes.h"
#include "runtime/base/log.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr char kUsage[] = R"(usage: muster k8s render -f job.yaml [options]
       muster k8s lint [options] FILE...
       muster k8s lint --list

render writes the manifests that run a job file's job on a cluster, with a comment where a choice was
made: to stdout, or with -o one file each into a folder. It talks to no cluster; kubectl applies them.
lint says what is wrong with manifests of any origin: fields that do not exist or not yet, what hangs or
runs twice, what Pod Security refuses. FILE - is stdin.

examples
  muster k8s render -f job.yaml --new-join-key | kubectl apply -f -
  muster k8s render -f job.yaml --api jobset --kubernetes 1.34 -o k8s/words
  muster k8s lint --kubernetes 1.31 k8s/words/*.yaml
  kubectl get job words-workers -o yaml | muster k8s lint -
)";

constexpr char kAfter[] = R"(exit status
  0    done; lint found nothing wrong     73   a folder or file cannot be written
  64   wrong usage                        78   the job file is wrong, or says too little for a cluster
  65   lint found something wrong
)";

struct RenderFlags {
  std::string file;
  std::string api = "job";
  std::string version;
  std::string folder;
  bool new_join_key = false;
  bool restrict_egress = false;
};

FlagSet DeclareRender(RenderFlags* render) {
  FlagSet flags("muster k8s render");
  flags.Heading("render");
  flags.Text("-f --file", "FILE", &render->file, "the job file");
  flags.Text("--api", "API", &render->api,
             "what runs the pods: job (batch/v1, nothing to install), jobset,\ntrainjob (Kubeflow Trainer 2) or mpijob (MPI "
             "Operator); job without it");
  flags.Choices("--api", kubernetes::ApiNames());
  flags.Text("-o --output", "FOLDER", &render->folder,
             "write there, one file an object; the folder is made. Without it: stdout");
  flags.Switch(
      "--new-join-key", &render->new_join_key,
      "put a Secret with a fresh join key among the manifests; without it\nthey name a Secret, and how to make it is said");
  flags.Switch(
      "--restrict-egress", &render->restrict_egress,
      "let the job's pods reach each other and DNS, and nothing else; without\nit only what reaches them is restricted");
  flags.Heading("render and lint");
  flags.Text("--kubernetes", "VERSION", &render->version,
             absl::StrCat("the cluster's version, ", kubernetes::VersionText(kubernetes::kVersionMin), " to ",
                          kubernetes::VersionText(kubernetes::kVersionMax), "; render takes ",
                          kubernetes::VersionText(kubernetes::kVersionDefault), " without it"));
  return flags;
}

int Fail(int exit_code, const absl::Status& status) {
  for (const absl::string_view line : absl::StrSplit(status.message(), '\n')) Say(line);
  return exit_code;
}

std::string FreshKey() {
  std::string bytes(32, '\0');
  MUSTER_CHECK(::getentropy(bytes.data(), bytes.size()) == 0, "getentropy");
  return absl::BytesToHexString(bytes);
}

// Files of an earlier rendering that this one does not replace would be applied with it.
std::vector<std::string> Leftovers(const std::string& folder, const std::vector<kubernetes::Manifest>& manifests) {
  std::vector<std::string> others;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    const bool ours =
        std::any_of(manifests.begin(), manifests.end(), [&](const kubernetes::Manifest& one) { return one.file == name; });
    if (!ours && entry.path().extension() == ".yaml" && name != "kustomization.yaml") others.push_back(name);
  }
  std::sort(others.begin(), others.end());
  return others;
}

int WriteFolder(const std::string& folder, const std::string& header, const std::vector<kubernetes::Manifest>& manifests) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return Fail(kExitCannotWrite, ErrnoToStatus(error.value(), absl::StrCat("make the folder ", folder)));
  for (const kubernetes::Manifest& manifest : manifests) {
    const std::string path = absl::StrCat(folder, "/", manifest.file);
    const mode_t mask = ::umask(077);
    if (manifest.document["kind"] != "Secret") ::umask(mask);  // a key is its owner's alone
    const absl::Status written = WriteFile(path, kubernetes::ToYamlStream({manifest.document}, header));
    ::umask(mask);
    if (!written.ok()) return Fail(kExitCannotWrite, written);
  }
  if (const auto others = Leftovers(folder, manifests); !others.empty()) {
    Say(absl::StrCat(folder, " also holds ", absl::StrJoin(others, ", "), ", not of this rendering; kubectl apply -f ", folder,
                     " would take them as well"));
  }
  return kExitOk;
}

// What the job file says of the network goes with the manifests: in the cluster its files are not to be had.
absl::Status ReadNetwork(const std::string& file, const JobFile& job, kubernetes::Plan* plan) {
  if (!job.topology.files) return absl::OkStatus();
  TopologyFileOptions options;
  options.files = job.topology.files->value;
  options.label_keys = plan->label_keys;
  const auto files = ReadTopologyFiles(absl::StrCat(file, ":", job.topology.files->line, ": topology.files:"), options);
  if (!files.ok()) return files.status();
  // In the pod their mistakes would be found when everything waits for it.
  MUSTER_ASSIGN_OR_RETURN(const std::optional<LabelDialect> keys, OwnLabelKeys(options));
  MUSTER_RETURN_IF_ERROR(ReadNetworkFiles(*files, keys ? &*keys : nullptr, "").status());
  for (size_t i = 0; i < files->size(); ++i) {
    const std::string& word = options.files[i];
    const std::string& path = (*files)[i].file.path;
    const std::string kind(absl::EndsWith(word, path) ? word.substr(0, word.size() - path.size()) : "");
    plan->network_files.push_back(kubernetes::MakeNetworkFile(kind, path, i, (*files)[i].text));
  }
  return kubernetes::CheckNetworkFiles(file, *plan);
}

int RenderCommand(const std::vector<std::string>& arguments) {
  RenderFlags render;
  FlagSet flags = DeclareRender(&render);
  const auto rest = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(HelpText(K8sPage()));
  if (!rest.ok()) return UsageError(rest.status().message());
  if (!rest->empty())
    return UsageError(absl::StrCat("muster k8s render takes no word besides its options (", rest->front(), "); write -f FILE"));
  if (render.file.empty()) return UsageError("muster k8s render needs a job file: -f job.yaml");
  kubernetes::RenderOptions options;
  const auto api = kubernetes::ApiFromText(render.api);
  if (!api.ok()) return UsageError(absl::StrCat("--api: ", api.status().message()));
  options.api = *api;
  if (!render.version.empty()) {
    const auto version = kubernetes::VersionFromText(render.version);
    if (!version.ok()) return UsageError(absl::StrCat("--kubernetes: ", version.status().message()));
    options.version = *version;
  }
  const auto job = ReadJobFile(render.file);
  if (!job.ok()) return Fail(absl::IsNotFound(job.status()) ? kExitUsage : kExitJobFile, job.status());
  // What `muster run` in the pod would refuse is refused here.
  bool help_wanted = false;
  if (const auto run = ParseRunOptions({"-f", render.file}, &help_wanted, &*job); absl::IsFailedPrecondition(run.status())) {
    return Fail(kExitJobFile, run.status());
  }
  auto plan = kubernetes::MakePlan(render.file, *job);
  if (!plan.ok()) return Fail(kExitJobFile, plan.status());
  if (const absl::Status network = ReadNetwork(render.file, *job, &*plan); !network.ok()) return Fail(kExitJobFile, network);
  if (render.new_join_key) options.join_key = FreshKey();
  options.restrict_egress = render.restrict_egress;
  const auto manifests = kubernetes::Render(*plan, options);
  if (!manifests.ok()) return Fail(kExitJobFile, manifests.status());
  for (const std::string& note : plan->notes) Say(note);

  std::string header = absl::StrCat("Made by: muster k8s render -f ", fs::path(render.file).filename().string(), " --api ",
                                    render.api, " --kubernetes ", kubernetes::VersionText(options.version));
  // The manifest says as well what of the file it does not hold.
  for (const absl::string_view note : plan->notes) {
    absl::StrAppend(&header, "\n", fs::path(render.file).filename().string(), absl::StripPrefix(note, render.file));
  }
  if (!render.new_join_key) {
    absl::StrAppend(&header, "\nThe pods mount the Secret ", kubernetes::JoinSecretName(*plan), "; make it once:\n  ",
                    kubernetes::JoinSecretCommand(*plan));
    Say(absl::StrCat("the pods need the Secret ", kubernetes::JoinSecretName(*plan),
                     "; make it with: ", kubernetes::JoinSecretCommand(*plan)));
  }
  if (const std::string keys = kubernetes::ClusterKeysCommand(*plan); !keys.empty()) {
    absl::StrAppend(&header, "\nThe coordinator's pod mounts the cluster's public keys; make them known once:\n  ", keys);
    Say(absl::StrCat("the coordinator needs the cluster's public keys; make them known with: ", keys));
  }
  if (!render.folder.empty()) return WriteFolder(render.folder, header, *manifests);
  std::vector<kubernetes::Json> documents;
  for (const kubernetes::Manifest& manifest : *manifests) documents.push_back(manifest.document);
  return Print(kubernetes::ToYamlStream(documents, header));
}

}  // namespace

HelpPage K8sPage() {
  RenderFlags render;
  LintFlags lint;
  std::vector<FlagDescription> flags = DeclareRender(&render).Describe();
  for (FlagDescription& flag : DeclareLint(&lint).Describe()) {
    if (flag.names[0] != "--kubernetes") flags.push_back(std::move(flag));
  }
  return {.before = kUsage, .flags = std::move(flags), .after = kAfter, .operand = Operand::kFile, .words = {"render", "lint"}};
}

int K8sCommand(const std::vector<std::string>& arguments) {
  const std::string verb = arguments.empty() ? "" : arguments[0];
  const std::vector<std::string> rest(arguments.begin() + (arguments.empty() ? 0 : 1), arguments.end());
  if (verb == "render") return RenderCommand(rest);
  if (verb == "lint") return LintCommand(rest);
  if (verb == "-h" || verb == "--help" || verb == "-help") return Print(HelpText(K8sPage()));
  const std::string nearest = NearestName(verb, {"render", "lint"});
  return UsageError(absl::StrCat(verb.empty() ? "muster k8s needs a word" : absl::StrCat("muster k8s knows no ", verb),
                                 nearest.empty() ? ": render or lint" : absl::StrCat("; did you mean ", nearest, "?"),
                                 "; see `muster k8s --help`"));
}

}  // namespace muster
