"""Whether an object is what a schema of Kubernetes says, to the letter: no field that it does not name, types, required fields, words.

The schemas are data of other projects and lie beside the source tree; MUSTER_KUBERNETES_SCHEMAS names another folder.
"""
import json
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.environ.get("MUSTER_KUBERNETES_SCHEMAS", os.path.join(HERE, "..", "..", "..", "..", "shared", "data", "kubernetes"))
CRDS = {"JobSet": "crd-jobsets.yaml", "TrainJob": "crd-trainjobs.yaml", "ClusterTrainingRuntime": "crd-clustertrainingruntimes.yaml",
        "MPIJob": "crd-mpijobs.yaml"}
TYPES = {"string": str, "boolean": bool, "object": dict, "array": list}


def are_here():
    return os.path.exists(os.path.join(FOLDER, "trainer-openapi.json"))


class Schemas:
    def __init__(self):
        import yaml
        with open(os.path.join(FOLDER, "trainer-openapi.json"), encoding="utf-8") as file:
            self.definitions = json.load(file)["components"]["schemas"]
        self.crds = {}
        for kind, name in CRDS.items():
            with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
                self.crds[kind] = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def schemas_of(self, document):
        """All that hold for the document; none where nobody has one."""
        group, _, version = document["apiVersion"].rpartition("/")
        found = []
        if document["kind"] in self.crds:
            crd = self.crds[document["kind"]]["spec"]
            if crd["group"] == group:
                found += [one["schema"]["openAPIV3Schema"] for one in crd["versions"] if one["name"] == version]
        ends = f".{version}.{document['kind']}"
        core = {"": "io.k8s.api.core", "batch": "io.k8s.api.batch", "jobset.x-k8s.io": "jobset", "trainer.kubeflow.org": "trainer"}.get(group)
        if core is not None and core + ends in self.definitions:
            found.append(self.definitions[core + ends])
        return found

    def errors(self, document):
        found = []
        for schema in self.schemas_of(document):
            self.check(document, schema, document["kind"], found)
        return found

    def check(self, value, schema, path, found):
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[-1]
            if name.endswith(".Quantity"):
                if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                    found.append(f"{path}: no quantity")
                elif not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?", str(value)):
                    found.append(f"{path}: {value!r} is no quantity")
                return
            return self.check(value, self.definitions[name], path, found)
        for part in schema.get("allOf", []):
            if "$ref" in part:
                return self.check(value, part, path, found)
        if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
            if isinstance(value, bool) or not isinstance(value, (str, int)):
                found.append(f"{path}: neither a number nor a text")
            return
        kind = schema.get("type")
        if kind in ("integer", "number"):
            if isinstance(value, bool) or not isinstance(value, int if kind == "integer" else (int, float)):
                found.append(f"{path}: {value!r} is no {kind}")
                return
            if "minimum" in schema and value < schema["minimum"]:
                found.append(f"{path}: {value} is below {schema['minimum']}")
            if "maximum" in schema and value > schema["maximum"]:
                found.append(f"{path}: {value} is above {schema['maximum']}")
        elif kind in TYPES and not isinstance(value, TYPES[kind]):
            found.append(f"{path}: {value!r} is no {kind}")
            return
        if "enum" in schema and value not in schema["enum"]:
            found.append(f"{path}: {value!r} is none of {schema['enum']}")
        if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
            found.append(f"{path}: {value!r} does not match {schema['pattern']}")
        if isinstance(value, list):
            if len(value) > schema.get("maxItems", len(value)) or len(value) < schema.get("minItems", 0):
                found.append(f"{path}: {len(value)} items")
            for i, item in enumerate(value):
                self.check(item, schema.get("items", {}), f"{path}[{i}]", found)
        if isinstance(value, dict):
            self.check_members(value, schema, path, found)

    def check_members(self, value, schema, path, found):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties")
        for name in schema.get("required", []):
            if name not in value:
                found.append(f"{path}.{name}: missing")
        for name, member in value.items():
            place = f"{path}.{name}"
            if name in properties:
                self.check(member, properties[name], place, found)
            elif isinstance(more, dict):
                self.check(member, more, place, found)
            elif not (schema.get("x-kubernetes-preserve-unknown-fields") or (path.count(".") == 0 and name == "metadata") or not properties):
                found.append(f"{place}: there is no such field")
