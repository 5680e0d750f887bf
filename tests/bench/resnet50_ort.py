#!/usr/bin/env python3
"""Peer of `graphc bench examples/resnet50.graph --set N=1`: ResNet-50 with random weights in ONNX Runtime.

usage: resnet50_ort.py [--batch 1] [--threads 2] [--repeat 50]
Builds the ONNX graph by hand (BatchNormalization as nodes; ONNX Runtime folds them), prints the median in ms.
"""
import argparse
import statistics
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


class Graph:
    def __init__(self):
        self.nodes, self.weights, self.count, self.rng = [], [], 0, np.random.default_rng(0)

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def weight(self, array):
        name = self.name()
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def op(self, kind, inputs, **attributes):
        out = self.name()
        self.nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def conv_bn(self, x, c_in, c_out, k, stride=1):
        w = self.weight(self.rng.normal(0, (2 / (c_in * k * k)) ** 0.5, (c_out, c_in, k, k)))
        y = self.op("Conv", [x, w], kernel_shape=[k, k], strides=[stride] * 2, pads=[k // 2] * 4)
        bn = [self.weight(v) for v in (np.ones(c_out), np.zeros(c_out), np.zeros(c_out), np.ones(c_out))]
        return self.op("BatchNormalization", [y] + bn, epsilon=1e-5)


def resnet50(batch):
    g = Graph()
    x = g.op("Relu", [g.conv_bn("image", 3, 64, 7, 2)])
    x = g.op("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c = 64
    for stage, blocks in enumerate([3, 4, 6, 3]):
        mid = 64 * 2**stage
        for i in range(blocks):
            stride = 2 if i == 0 and stage > 0 else 1
            y = g.op("Relu", [g.conv_bn(x, c, mid, 1)])
            y = g.op("Relu", [g.conv_bn(y, mid, mid, 3, stride)])
            y = g.conv_bn(y, mid, 4 * mid, 1)
            skip = g.conv_bn(x, c, 4 * mid, 1, stride) if stride != 1 or c != 4 * mid else x
            x = g.op("Relu", [g.op("Add", [y, skip])])
            c = 4 * mid
    x = g.op("Flatten", [g.op("GlobalAveragePool", [x])])
    w, b = g.weight(g.rng.normal(0, 0.02, (1000, 2048))), g.weight(np.zeros(1000))
    x = g.op("Gemm", [x, w, b], transB=1)
    graph = helper.make_graph(
        g.nodes, "resnet50", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 224, 224])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [batch, 1000])], g.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--repeat", type=int, default=50)
    a = p.parse_args()
    options = ort.SessionOptions()
    options.intra_op_num_threads = a.threads
    session = ort.InferenceSession(resnet50(a.batch).SerializeToString(), options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).normal(size=(a.batch, 3, 224, 224)).astype(np.float32)
    times = []
    for i in range(a.repeat + 5):
        start = time.perf_counter()
        session.run(None, {"image": image})
        if i >= 5:
            times.append((time.perf_counter() - start) * 1e3)
    print(f"median_ms={statistics.median(times):.2f} batch={a.batch} threads={a.threads} onnxruntime={ort.__version__}")


if __name__ == "__main__":
    main()
