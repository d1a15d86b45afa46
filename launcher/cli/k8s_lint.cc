// muster k8s lint: reads files, shows findings.
#include "launcher/cli/k8s_lint.h"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/cli/console.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/subcommand.h"
#include "launcher/kubernetes/lint.h"
#include "launcher/process/exit_codes.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using kubernetes::Finding;

constexpr size_t kBytesMax = 16 << 20;  // of one file

const std::map<std::string, kubernetes::PodSecurity>& Levels() {
  static const auto& levels =
      *new std::map<std::string, kubernetes::PodSecurity>{{"privileged", kubernetes::PodSecurity::kPrivileged},
                                                          {"baseline", kubernetes::PodSecurity::kBaseline},
                                                          {"restricted", kubernetes::PodSecurity::kRestricted}};
  return levels;
}

absl::StatusOr<kubernetes::LintOptions> Settle(const LintFlags& flags) {
  kubernetes::LintOptions options;
  if (!flags.version.empty()) {
    const auto version = kubernetes::VersionFromText(flags.version);
    if (!version.ok()) return absl::InvalidArgumentError(absl::StrCat("--kubernetes: ", version.status().message()));
    options.version = *version;
  }
  const auto level = Levels().find(flags.pod_security);
  if (level == Levels().end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--pod-security ", flags.pod_security, ": choose restricted, baseline or privileged"));
  }
  options.pod_security = level->second;
  std::vector<std::string> names;
  for (const kubernetes::Rule& rule : kubernetes::Rules()) names.push_back(rule.name);
  for (const std::string& rule : flags.ignored) {
    if (kubernetes::FindRule(rule) == nullptr) {
      const std::string nearest = NearestName(rule, names);
      return absl::InvalidArgumentError(
          absl::StrCat("--ignore ", rule, ": there is no such rule",
                       nearest.empty() ? "; see muster k8s lint --list" : absl::StrCat("; did you mean ", nearest, "?")));
    }
    options.ignored.insert(rule);
  }
  return options;
}

absl::StatusOr<kubernetes::ManifestText> ReadManifest(const std::string& path) {
  kubernetes::ManifestText manifest{path == "-" ? "stdin" : path, ""};
  std::ifstream file;
  if (path != "-") file.open(path, std::ios::binary);
  std::istream& source = path == "-" ? std::cin : file;
  manifest.text.resize(kBytesMax + 1);
  if (source) source.read(manifest.text.data(), static_cast<std::streamsize>(manifest.text.size()));
  if ((path != "-" && !file.is_open()) || source.bad() || (source.fail() && !source.eof())) {
    return absl::InvalidArgumentError(absl::StrCat(path, " cannot be read; name files of manifests, or - for stdin"));
  }
  manifest.text.resize(static_cast<size_t>(source.gcount()));
  if (manifest.text.size() > kBytesMax)
    return absl::InvalidArgumentError(absl::StrCat(path, " has more than 16 MiB, which no manifest has"));
  return manifest;
}

std::string Text(const Finding& finding) {
  const kubernetes::Rule* const rule = kubernetes::FindRule(finding.rule);
  return absl::StrCat(finding.file, ":", finding.line, ":", finding.column, ": ", finding.rule, ": ", finding.message,
                      "\n    at   ", finding.object, finding.path.empty() ? "" : ", ", finding.path, "\n    why  ",
                      rule->reason, "\n    fix  ", rule->fix, "\n");
}

std::string Json(const kubernetes::LintResult& result) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Finding& finding : result.findings) {
    const kubernetes::Rule* const rule = kubernetes::FindRule(finding.rule);
    list.push_back({{"rule", finding.rule},
                    {"file", finding.file},
                    {"line", finding.line},
                    {"column", finding.column},
                    {"object", finding.object},
                    {"path", finding.path},
                    {"message", finding.message},
                    {"reason", rule->reason},
                    {"fix", rule->fix}});
  }
  return list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

int PrintRules(bool json) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  std::string text;
  for (const kubernetes::Rule& rule : kubernetes::Rules()) {
    list.push_back({{"rule", rule.name}, {"reason", rule.reason}, {"fix", rule.fix}});
    absl::StrAppend(&text, rule.name, "\n    why  ", rule.reason, "\n    fix  ", rule.fix, "\n");
  }
  return Print(json ? list.dump(2) + "\n" : text);
}

}  // namespace

FlagSet DeclareLint(LintFlags* lint) {
  FlagSet flags("muster k8s lint");
  flags.Heading("lint");
  flags.Text("--pod-security", "LEVEL", &lint->pod_security,
             "the level of Pod Security to hold pods to: restricted (default),\nbaseline or privileged");
  flags.Choices("--pod-security", {"restricted", "baseline", "privileged"});
  flags.Texts("--ignore", "RULE", &lint->ignored, "say nothing of this rule; may be given many times");
  flags.Switch("--json", &lint->json, "a JSON array of objects: rule, file, line, column, object, path,\nmessage, reason, fix");
  flags.Switch("--list", &lint->list, "show all rules with reason and fix, and look at nothing");
  flags.Text("--kubernetes", "VERSION", &lint->version, "the cluster's version; without it no field is too new");
  return flags;
}

int LintCommand(const std::vector<std::string>& arguments) {
  LintFlags lint;
  FlagSet flags = DeclareLint(&lint);
  auto files = flags.Parse(arguments);
  if (flags.help_wanted()) return Print(HelpText(K8sPage()));
  if (!files.ok()) return UsageError(files.status().message());
  if (lint.list) return PrintRules(lint.json);
  if (files->empty()) return UsageError("muster k8s lint needs files: muster k8s lint FILE..., or - for stdin");
  const auto options = Settle(lint);
  if (!options.ok()) return UsageError(options.status().message());
  std::vector<kubernetes::ManifestText> texts;
  for (const std::string& path : *files) {
    auto text = ReadManifest(path);
    if (!text.ok()) return UsageError(text.status().message());
    texts.push_back(*std::move(text));
  }
  const kubernetes::LintResult result = kubernetes::Lint(texts, *options);
  std::string shown;
  for (const Finding& finding : result.findings) shown += Text(finding);
  if (const int printed = Print(lint.json ? Json(result) : shown); printed != kExitOk) return printed;
  if (!result.unknown.empty()) {
    Say(absl::StrCat("of ", absl::StrJoin(result.unknown, ", "),
                     " only the kind was looked at: there is no table of its fields here"));
  }
  if (!lint.json)
    Say(absl::StrCat(result.objects, result.objects == 1 ? " object, " : " objects, ", result.findings.size(),
                     result.findings.size() == 1 ? " finding" : " findings"));
  return result.findings.empty() ? kExitOk : kExitDamaged;
}

}  // namespace muster
