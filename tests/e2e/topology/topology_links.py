"""A job of one rank on each host of a LeafNetwork, by muster coordinator and an agent on each, with and without knowledge of the leaves."""
import json
import os
import re
import subprocess
import time

MUSTER = os.environ.get("MUSTER_BIN", "muster")


def _read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def measure(network, program, size, calls, folder, topology=None, muster=MUSTER, seconds=120):
    """Runs ring_allreduce; returns what it wrote, with "uplinks": bytes over each leaf's uplink in either direction meanwhile, "events":
    what muster told, and "order": the hosts by rank. `topology`: for --topology-file."""
    state = os.path.join(folder, f"state-{time.monotonic_ns()}")
    environment = {**os.environ, "XDG_STATE_HOME": state}
    words = [muster, "coordinator", "--listen", network.outside.address, "--nodes", str(len(network.hosts)), "-np", str(len(network.hosts)),
             "-x", "OMP_NUM_THREADS=1"]
    if topology:
        words += ["--topology-file", topology]
    errors = open(os.path.join(folder, "errors"), "w+", encoding="utf-8")
    before = network.counters()
    coordinator = subprocess.Popen(network.outside.command(*words, program, "--bytes", str(size), "--calls", str(calls)), text=True,
                                   env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
    agents = []
    try:
        found = {}
        end = time.monotonic() + 30
        while len(found) < len(network.hosts):
            text = _read(errors.name)
            found = dict(re.findall(r"on node (\d+) run: muster (agent .*)", text))
            if coordinator.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the coordinator wrote no tickets: {text}")
            time.sleep(0.01)
        for node, line in found.items():
            host = network.hosts[int(node)]
            agents.append(subprocess.Popen(host.command(muster, *line.split(), "--host", host.name), env=environment,
                                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors))
        output, _ = coordinator.communicate(timeout=seconds)
        for agent in agents:
            agent.wait(timeout=30)
        after = network.counters()
        if coordinator.returncode != 0:
            raise RuntimeError(f"exit code {coordinator.returncode}: {_read(errors.name)}")
        result = json.loads(output.strip().splitlines()[-1])
        status = json.loads(subprocess.run([muster, "status", "--json"], env=environment, capture_output=True, text=True, check=True).stdout)
        events = subprocess.run([muster, "events"], env=environment, capture_output=True, text=True, check=True).stdout
    finally:
        for one in [coordinator, *agents]:
            if one.poll() is None:
                one.kill()
            one.wait()
        if coordinator.stdout:
            coordinator.stdout.close()
        errors.close()
    result["uplinks"] = [(sent - sent_before, got - got_before)
                         for (sent, got), (sent_before, got_before) in zip(after, before)]
    result["plan"] = status["plan"]
    result["order"] = [rank["host"] for rank in sorted(status["ranks"], key=lambda rank: rank["rank"])]
    result["events"] = events
    return result


def crossings(network, order):
    """How many edges of the ring leave each leaf."""
    leaf = {host.name: network.leaf_of(i) for i, host in enumerate(network.hosts)}
    count = [0] * network.leaves
    for one, other in zip(order, order[1:] + order[:1]):
        if leaf[one] != leaf[other]:
            count[leaf[one]] += 1
    return count


def ring_bytes(ranks, size, calls):
    """What one edge of the ring carries: 2(N-1)/N of the vector a call."""
    return 2 * (ranks - 1) / ranks * size * calls


# A full Ethernet frame of 1514 bytes, as the kernel counts it, brings 1448 bytes: 14 of Ethernet, 20 of IP, 32 of TCP with timestamps.
HEADERS = 1514 / 1448
