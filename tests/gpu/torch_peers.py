#!/usr/bin/env python3
"""The bundle's benchmarks in PyTorch, eager and compiled, strict f32, on the same card. Prints one line of JSON."""
import json
import sys
import time

try:
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
except ImportError as e:
    sys.exit(f"torch isn't here: {e}")
if not torch.cuda.is_available():
    sys.exit("torch sees no card")

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True
DEVICE = "cuda"


class Bottleneck(nn.Module):
    def __init__(self, cin, mid, cout, stride):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(cin, mid, 1, bias=False), nn.BatchNorm2d(mid)
        self.c2, self.b2 = nn.Conv2d(mid, mid, 3, stride, 1, bias=False), nn.BatchNorm2d(mid)
        self.c3, self.b3 = nn.Conv2d(mid, cout, 1, bias=False), nn.BatchNorm2d(cout)
        self.down = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout)) if stride > 1 or cin != cout else None

    def forward(self, x):
        y = F.relu(self.b1(self.c1(x)))
        y = F.relu(self.b2(self.c2(y)))
        return F.relu(self.b3(self.c3(y)) + (self.down(x) if self.down else x))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        layers, cin = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
        for mid, n, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for i in range(n):
                layers.append(Bottleneck(cin, mid, 4 * mid, stride if i == 0 else 1))
                cin = 4 * mid
        self.body, self.head = nn.Sequential(*layers), nn.Linear(2048, 1000)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.n1, self.n2 = heads, nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out, self.up, self.down = nn.Linear(d, 3 * d), nn.Linear(d, d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = (a.view(n, t, self.heads, d // self.heads).transpose(1, 2) for a in self.qkv(self.n1(x)).chunk(3, 2))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.n2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self, vocabulary=50257, context=1024, d=768, layers=12, heads=12):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, d), nn.Embedding(context, d)
        self.blocks, self.norm = nn.Sequential(*(Block(d, heads) for _ in range(layers))), nn.LayerNorm(d)

    def forward(self, ids):
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


class MnistCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.f1, self.f2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1), nn.Linear(3136, 128), nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c2(x)), 2)
        return self.f2(F.relu(self.f1(x.flatten(1))))


def median_ms(step, repeat):
    for _ in range(5):
        step()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)[len(times) // 2]


def timed(make, inputs, labels, training, optimizer, compiled, repeat):
    torch.manual_seed(0)
    model = make().to(DEVICE)
    model.train(training)
    forward = torch.compile(model, mode="default" if training else "max-autotune") if compiled else model
    if not training:
        with torch.no_grad():
            return median_ms(lambda: forward(inputs), repeat)
    o = optimizer(model.parameters())

    def step():
        logits = forward(inputs)
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
        o.zero_grad(set_to_none=True)
        loss.backward()
        o.step()

    return median_ms(step, repeat)


def main():
    image = lambda n: torch.randn(n, 3, 224, 224, device=DEVICE)
    label = lambda n: torch.randint(0, 1000, (n,), device=DEVICE)
    sgd = lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, foreach=True)
    adamw = lambda p: torch.optim.AdamW(p, 1e-4, fused=True)
    ids = torch.randint(0, 50257, (8, 1024), device=DEVICE)
    cases = [("resnet50 inference, batch 1", ResNet50, image(1), None, False, None, 100),
             ("resnet50 inference, batch 128", ResNet50, image(128), None, False, None, 20),
             ("resnet50 training step, batch 128", ResNet50, image(128), label(128), True, sgd, 10),
             ("gpt2 training step, 8 x 1024", GPT2, ids, ids.roll(-1, 1), True, adamw, 10),
             ("mnist_cnn training step, batch 64", MnistCNN, torch.randn(64, 1, 28, 28, device=DEVICE),
              torch.randint(0, 10, (64,), device=DEVICE), True, adamw, 100)]
    out = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}
    for name, make, inputs, labels, training, optimizer, repeat in cases:
        row = {}
        for key, compiled in (("eager_ms", False), ("compile_ms", True)):
            try:
                row[key] = timed(make, inputs, labels, training, optimizer, compiled, repeat)
            except Exception as e:  # a peer that fails is a row without a figure
                row[key.replace("_ms", "_error")] = str(e).splitlines()[0][:200]
            torch.cuda.empty_cache()
        out[name] = row
    print(json.dumps(out))


if __name__ == "__main__":
    main()
