"""A small recipe that is right, for tests that make it wrong."""

GOOD = """\
name: tiny
version: 1.2.3
licence: MIT
task: {kind: text_classification, labels: [negative, positive]}
teacher:
  kind: transformers
  model: {hub: org/teacher, revision: abc123}
  licence: Apache-2.0
  fit: {method: head, epochs: 1}
data:
  train: {source: jsonl, file: train.jsonl}
  test: {source: csv, file: test.csv, delimiter: ";"}
  challenge:
    tweets: {source: jsonl, file: tweets.jsonl}
student: {kind: static, dimensions: 64}
distill:
  epochs: 2
  controls: true
  learning_rate: 1e-3
  losses:
    - {loss: forward_kl, weight: 0.9, temperature: 2.0}
    - {loss: cross_entropy, weight: 0.1}
quantize:
  - {method: dynamic_int8}
export:
  - {format: onnx}
benchmark: {threads: 1}
budget:
  min_retained_quality: 0.9
  max_file_bytes: 10 MB
"""
