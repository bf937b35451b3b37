"""Trains a small net on all ranks with gloo, and writes every loss; goes on from its checkpoint.

Arguments: steps, ranks, seconds that a step takes beside its work, and steps between two checkpoints.
LOSSES is the file of losses.
"""

import json
import os
import sys
import time

import torch
import torch.distributed as dist

STEPS = int(sys.argv[1])
PAUSE = float(sys.argv[3]) if len(sys.argv) > 3 else 0
EVERY = int(sys.argv[4]) if len(sys.argv) > 4 else 10
LOSSES = os.environ.get("LOSSES", "losses.jsonl")
FOLDER = os.environ["TRAINYARD_CHECKPOINT_PATH"]
PATH = os.path.join(FOLDER, "checkpoint.pt")

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
assert world == int(sys.argv[2]), world
torch.set_num_threads(1)
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
model = torch.nn.parallel.DistributedDataParallel(net)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
start = 0
if os.path.exists(PATH):
    saved = torch.load(PATH)
    net.load_state_dict(saved["net"])
    optimizer.load_state_dict(saved["optimizer"])
    start = saved["step"]
for step in range(start, STEPS):
    data = torch.Generator().manual_seed(step * world + rank)
    x = torch.randn(64, 4, generator=data)
    y = (x @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])).tanh()
    loss = torch.nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    time.sleep(PAUSE)
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    if rank == 0:
        with open(LOSSES, "a") as file:
            file.write(json.dumps([step, mean.item() / world]) + "\n")
        if (step + 1) % EVERY == 0:
            saved = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(saved, PATH + ".new")
            os.replace(PATH + ".new", PATH)
        with open(os.environ["TRAINYARD_HEARTBEAT_FILE"], "w") as file:
            json.dump({"step": step + 1, "loss": mean.item() / world}, file)
if rank == 0:
    print(f"trained {STEPS} steps on {world} ranks", flush=True)
dist.destroy_process_group()
