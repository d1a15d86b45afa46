"""An ordinary torch.distributed program: it knows nothing of muster. Fits a small network with DistributedDataParallel on gloo.

    train_ddp.py [--steps N] [--checkpoint FILE] [--die STEP RANK HOW ONCE]

Each rank prints "sum S", an all-reduce of rank + 1, and at the end "final RANK WORLD_SIZE LOSS SHA256" of its parameters.
"""
import argparse
import hashlib
import os
import signal

import torch
import torch.distributed
from torch.distributed.elastic.multiprocessing.errors import record

SAMPLES = 24  # the same for 1, 2, 3 and 4 ranks


def die(how):
    if how == "raise":
        raise RuntimeError("the loss is nan\nand more lines than one")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "wait":
        signal.pause()
    os._exit(int(how))


@record
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--checkpoint")
    parser.add_argument("--die", nargs=4, metavar=("STEP", "RANK", "HOW", "ONCE"))
    options = parser.parse_args()

    torch.distributed.init_process_group("gloo")
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    total = torch.tensor([rank + 1.0])
    torch.distributed.all_reduce(total)
    print("sum", int(total.item()), flush=True)

    torch.manual_seed(5)
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    model = torch.nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    samples = torch.randn(SAMPLES, 8, generator=torch.Generator().manual_seed(7))
    wanted = samples.sum(1, keepdim=True)
    first = 0
    if options.checkpoint and os.path.exists(options.checkpoint):
        state = torch.load(options.checkpoint)
        model.load_state_dict(state["model"])
        first = state["step"]
        print("resumed at step", first, "restart", os.environ["TORCHELASTIC_RESTART_COUNT"], flush=True)
    loss = torch.zeros(1)
    for step in range(first, options.steps):
        if options.die and (step, rank) == (int(options.die[0]), int(options.die[1])) and not os.path.exists(options.die[3]):
            open(options.die[3], "w").close()
            die(options.die[2])
        optimizer.zero_grad()
        loss = ((model(samples[rank::size]) - wanted[rank::size]) ** 2).mean()
        loss.backward()
        optimizer.step()
        if options.checkpoint and rank == 0:
            torch.save({"model": model.state_dict(), "step": step + 1}, options.checkpoint + ".new")
            os.replace(options.checkpoint + ".new", options.checkpoint)
    loss = loss.detach()
    torch.distributed.all_reduce(loss)
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()
    print("final", rank, size, f"{loss.item() / size:.6f}", digest, flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
