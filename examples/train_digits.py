"""Trains the network that comes with sepcore: a narrow MobileNetV2 on scikit-learn's handwritten digits.

Needs PyTorch and scikit-learn:  python examples/train_digits.py
Writes sepcore/data/digits.pth (a plain state dict, as users export), ten held-out digits as examples/digits/*.png, and
all held-out digits as tests/data/digits_held_out.npz. Takes a few minutes on two cores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).resolve().parent
SIDE = 32
WIDTH = 0.1
# Expansion, channels, repeats and stride of each stage: MobileNetV2 (Sandler et al., 2018), table 2.
STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def channels(count: float) -> int:
    """``count`` scaled by WIDTH to a multiple of 8, never more than 10 % below."""
    scaled = count * WIDTH
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [conv_bn(inputs, hidden, 1, 1)] if expansion != 1 else []
        layers += [
            conv_bn(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """With torchvision's parameter names, so that sepcore recognises the state dict."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        current = channels(32)
        features: list[nn.Module] = [conv_bn(3, current, 3, 2)]
        for expansion, count, repeats, stride in STAGES:
            for i in range(repeats):
                features.append(InvertedResidual(current, channels(count), stride if i == 0 else 1, expansion))
                current = channels(count)
        features.append(conv_bn(current, 1280, 1, 1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def pictures(digits: np.ndarray) -> list[Image.Image]:
    """scikit-learn's 8x8 digits, 0..16, as greyscale pictures."""
    return [Image.fromarray(np.round(d * (255 / 16)).astype(np.uint8)) for d in digits]


def inputs(images: list[Image.Image]) -> torch.Tensor:
    """As sepcore prepares them: RGB, resized to SIDE, mean and standard deviation 0.5."""
    resized = [np.asarray(i.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for i in images]
    return (torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def augmented(x: torch.Tensor) -> torch.Tensor:
    """Small random rotations, scales and shifts."""
    n = len(x)
    angle, scale = (torch.rand(n) - 0.5) * 0.35, 1 + (torch.rand(n) - 0.5) * 0.25
    shift = (torch.rand(n, 2) - 0.5) * 0.25
    rows = [torch.cos(angle) * scale, -torch.sin(angle) * scale, shift[:, 0]]
    rows += [torch.sin(angle) * scale, torch.cos(angle) * scale, shift[:, 1]]
    grid = nn.functional.affine_grid(torch.stack(rows, 1).view(n, 2, 3), list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def train(net: MobileNetV2, x: torch.Tensor, y: torch.Tensor, epochs: int = 120, batch: int = 64) -> None:
    steps = epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    net.train()
    for epoch in range(epochs):
        order = torch.randperm(len(x))
        for i in range(len(x) // batch):
            rows = order[i * batch : (i + 1) * batch]
            loss = loss_of(net(augmented(x[rows])), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 20 == 19:
            print(f"epoch {epoch + 1}: loss {loss.item():.3f}")


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    split = train_test_split(digits.images, digits.target, test_size=0.2, random_state=0, stratify=digits.target)
    train_x, test_x, train_y, test_y = split
    net = MobileNetV2(10)
    train(net, inputs(pictures(train_x)), torch.from_numpy(train_y))
    net.eval()
    with torch.inference_mode():
        logits = net(inputs(pictures(test_x))).numpy()
    right = logits.argmax(1) == test_y
    print(f"held out: {right.sum()} of {len(test_y)} right ({100 * right.mean():.1f} %)")
    torch.save(net.state_dict(), HERE.parent / "sepcore" / "data" / "digits.pth")
    kept = np.stack([np.asarray(i) for i in pictures(test_x)])
    np.savez_compressed(
        HERE.parent / "tests" / "data" / "digits_held_out.npz", images=kept, labels=test_y, logits=logits
    )
    for digit in range(10):
        first = int(np.flatnonzero(test_y == digit)[0])
        pictures(test_x)[first].save(HERE / "digits" / f"digit_{digit}.png")


if __name__ == "__main__":
    main()
